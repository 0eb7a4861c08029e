"""Texts, videos made from a text, and the phone, at a deployed hub."""

from tests.support.field.frames import Frame
from tests.support.field.hub_room import ACK, Peer, Room, id_of, made

NO_PC = "电脑端不在线，请先打开电脑端软件"


class Texts(Room):
    """What a deployed hub relays beside jobs."""

    async def _url(self, peer: Peer, frame: Frame) -> None:
        if "client" in peer.roles:
            job = {"type": "url", "url": frame.get("url", ""), "key": peer.key}
            workers = bool(self._of("worker"))
            await self.tell(job, "worker")
            await self.tell({"type": "url", "key": peer.key}, "gpu_monitor")
            if workers:
                await peer.say({"type": "ack", "msg": "已提交"})
            else:
                self._keep(peer.key, job)
                await self._offline(peer, made("gpu_offline"), "url")

    async def _text(self, peer: Peer, frame: Frame) -> None:
        if "worker" in peer.roles:
            answer: Frame = {name: frame[name] for name in ("type", "content", "error") if name in frame}
            for client in self._of_key(str(frame.get("key") or "")):
                await client.say(answer)

    async def _video(self, peer: Peer, frame: Frame) -> None:
        if "client" in peer.roles:
            about = {"type": "chatglm_video", "content": frame.get("content", ""), "key": peer.key}
            request_id = id_of(frame, "cv")
            await self.tell({**about, "request_id": request_id, "sender_fd": peer.fd}, "worker")
            await self.tell({"type": "chatglm_video", "key": peer.key}, "gpu_monitor")
            await peer.say({"type": "ack", "request_id": request_id, "task_type": "chatglm_video", "msg": ACK})

    async def _video_result(self, peer: Peer, frame: Frame) -> None:
        if "worker" in peer.roles:
            await self._to_sender(frame, {name: frame[name] for name in frame if name not in ("key", "sender_fd")})

    async def _mobile_task(self, peer: Peer, frame: Frame) -> None:
        if peer.device == "mobile":
            job = {"type": "mobile_task", "request_id": id_of(frame, "mt"), "task_type": frame.get("task_type", "")}
            pc = self._newest(peer.key, "pc")
            if pc is None:
                await peer.say({"type": "error", "request_id": job["request_id"], "msg": NO_PC})
                return
            await pc.say({**job, "payload": frame.get("payload"), "key": peer.key, "sender_fd": peer.fd})
            await peer.say({**job, "type": "ack", "msg": ACK})

    async def _mobile_result(self, peer: Peer, frame: Frame) -> None:
        if peer.device == "pc":
            there = self.peers.get(frame.get("sender_fd") or 0) or self._newest(peer.key, "mobile")
            if there is not None:
                await there.say(frame)

    async def _sync(self, peer: Peer, frame: Frame) -> None:
        there = self._newest(peer.key, str(frame.get("target_device", "")))
        if there is not None:
            await there.say(frame)

    def _newest(self, key: str, device: str) -> Peer | None:
        return next((peer for peer in reversed(self._of_key(key)) if peer.device == device), None)
