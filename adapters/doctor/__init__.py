from wakestream.adapters.doctor.examination import examine
from wakestream.adapters.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
