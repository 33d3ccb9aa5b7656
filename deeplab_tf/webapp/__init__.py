"""A local page to try a model: `python -m deeplab_tf.webapp --model=...`.

uploads.py       image files of others to pixels, with care
served_model.py  the model, asked by one caller at a time
page.py          from an uploaded file and the CRF's constants to what is shown; knows no Gradio
interface.py     Gradio's components, and what happens when they change
server.py        listening on an address
"""
