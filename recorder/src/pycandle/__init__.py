"""Records a PyTorch model as a manifest and goldens for pycandle."""

from .errors import RecordError
from .meta import meta_device
from .recorder import GoldenRecorder

__version__ = "0.1.0"

__all__ = ["GoldenRecorder", "RecordError", "__version__", "meta_device"]
