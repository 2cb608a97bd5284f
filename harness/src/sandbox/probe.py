# Says where an interpreter has its parts.
import importlib
import json
import os
import platform
import sys
import sysconfig

# Extension modules that need libraries of the system.
for name in "bz2 ctypes decimal hashlib lzma sqlite3 ssl uuid zlib zoneinfo".split():
    try:
        importlib.import_module(name)
    except ImportError:
        pass
libraries = set()
with open("/proc/self/maps") as maps:
    for line in maps:
        path = line.split(maxsplit=5)[5:]
        if path and path[0].startswith("/") and ".so" in os.path.basename(path[0]):
            libraries.add(os.path.dirname(path[0].strip()))
folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("DESTSHARED")}
print(
    json.dumps(
        {
            "executable": os.path.realpath(sys.executable),
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "folders": sorted(path for path in folders | libraries if path and os.path.isdir(path)),
        }
    )
)
