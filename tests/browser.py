"""A headless Chromium, driven by its own protocol over two pipes (`--remote-debugging-pipe`)."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page. `errors` collects its exceptions and what it writes to the console as an error."""

    def __init__(self, profile: Path):
        command = f"{CHROMIUM} --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={profile}"
        pipes = "3<&0 4>&1 </dev/null >/dev/null 2>&1"  # Chromium reads descriptor 3 and writes 4
        self.process = subprocess.Popen(
            f"exec {command} {pipes}", shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.count, self.session, self.rest, self.errors = 0, None, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        while (said := self.read()).get("id") != self.count:
            pass
        assert "error" not in said, said["error"]
        return said["result"]

    def read(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.rest:
            part = self.process.stdout.read(1 << 20)
            assert part, "the browser has ended"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        said = json.loads(message)
        logged = said.get("params", {}).get("entry", {}).get("level")
        if said.get("method") == "Runtime.exceptionThrown" or logged == "error":
            self.errors.append(said["params"])
        self.loaded = said.get("method") == "Page.loadEventFired"
        return said

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.loaded = False
        self.call("Page.navigate", url=address)
        while not self.loaded:
            self.read()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def close(self) -> None:
        """End the browser."""
        self.process.kill()
        self.process.communicate()
