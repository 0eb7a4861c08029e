"""A user whose hub and worker are those of the field, with the settings where users of the field have them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.support.field.hub import FieldHub, field_hub
from tests.support.field.worker import FieldWorker, field_worker
from tests.support.programs.client_scene import User

KEY = "field-license-key-0001"
SECRET = "field-secret-0123456789"


def settings(user: User, hub: str, worker: str, secret: str = SECRET) -> None:
    """Write them."""
    lines = {"API_SERVER_URL": hub, "HEYGEM_SERVER_URL": worker, "HEYGEM_API_SECRET": secret}
    (user.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    (user.folder / ".license").touch(mode=0o600)
    (user.folder / ".license").write_text(f'{{"license_key": "{KEY}"}}')


@asynccontextmanager
async def field(
    user: User,
    *,
    online: bool = True,
    hub_life: AsyncExitStack | None = None,
    worker_life: AsyncExitStack | None = None,
) -> AsyncIterator[tuple[FieldHub, FieldWorker]]:
    """Both run; the worker's machine is off if it is not `online`: a gateway answers for it.

    A test that gives one of them a `life` ends it when it likes.
    """
    async with AsyncExitStack() as ours:
        hub = await (hub_life or ours).enter_async_context(field_hub())
        worker = await (worker_life or ours).enter_async_context(field_worker(SECRET))
        worker.http.on = online
        if online:
            await (worker_life or ours).enter_async_context(worker.at_hub(hub.url))
            await hub.until(lambda: hub.said("gpu.power.online"))
        settings(user, hub.url, worker.url)
        yield hub, worker


async def go_online(hub: FieldHub, worker: FieldWorker) -> None:
    """The machine is on, and the hub tells everybody, under the old name alone."""
    worker.http.on = True
    await hub.tell({"type": "gpu.status.response", "status": "running", "request_id": "x", "source": "monitor"})
    await hub.tell({"type": "gpu_online", "msg": "GPU is online"})
