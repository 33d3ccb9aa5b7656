"""Measuring a network (Sec. 4): metrics, reports, submissions, the search for the CRF's constants."""
