"""Metrics, each with statistics per example, so that any interval is a cheap resample.

Two kinds fill the socket ``metric``. A metric of sums (``decoded`` is False) needs only the nats a model gives to the
targets. A metric of decoded answers (``decoded`` is True) compares what the model writes with the reference.
"""

from finescale.lab.metrics.sums import BITS_PER_BYTE, NLL, PERPLEXITY, Rows

__all__ = ["BITS_PER_BYTE", "NLL", "PERPLEXITY", "Rows"]
