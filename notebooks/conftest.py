import os

# nbval reads what a cell sends only after the cell has ended, and of more than about 1,000 messages it loses the last.
# A progress bar sends some at every redraw: one redraw a second keeps a slow machine below that.
os.environ.setdefault("TQDM_MININTERVAL", "1")
