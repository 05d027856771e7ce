"""Deep Speaker (Baidu, arXiv 1705.02304) as a Kaldi-style recipe."""

__version__ = "0.1.0"
