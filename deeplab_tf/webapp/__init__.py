"""A local page to try a model: `python -m deeplab_tf.webapp --model=...`.

uploads.py       image files of others to pixels, with care
served_model.py  the model, used by one caller at a time
kept.py          what the network said of the last images
page.py          what the page says and shows; knows no HTTP
app.py           the five routes
guard.py         who may use them
server.py        listening on an address
page.html, page.css, page.js  the page in the browser
"""
