"""Labelling an archive with Apache Beam: what `python -m deeplab_tf.batch_predict` does.

    plan.py       which inputs are still to be done, in which blocks            no Beam, no TensorFlow
    manifest.py   what was done, one JSON line an image                         no Beam, no TensorFlow
    blocks.py     one block of encoded images to encoded labels                 no Beam
    records.py    TFRecord files in and out                                     no Beam
    storage.py    files by Beam's file systems: a folder, gs://, s3://, hdfs://
    pipeline.py   the blocks through Beam's RunInference
    job.py        plan, run, collect

A block, of so many images or of one TFRecord file, is what Beam hands out. When all its answers are written, its note
OUT/.batch/notes/000012.jsonl is, under a temporary name first: a block without a note is not done, and doing it again
writes the same files. At the end the notes become OUT/manifest.jsonl.
"""
