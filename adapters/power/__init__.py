from wakestream.adapters.power.command import CommandPower as CommandPower
from wakestream.adapters.power.process import ProcessPower as ProcessPower
