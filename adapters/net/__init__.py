"""What both ends of a connection share.

aiohttp and websockets offer no public way to do some things that our programs need. This is the complete list of the
places that depend on their inner workings; a test compares it with the code, and pyproject.toml has upper bounds for
both libraries. When you raise a bound, read each of these places and run its tests.

aiohttp:

- `net.direct_body`: takes the transport from a connection in the middle of a body (`set_protocol`), calls
  `data_received`, `eof_received` and `connection_lost` of aiohttp's protocol, and compares `StreamReader.total_bytes`.
- `net.silent_callers`: replaces `web.Server.connection_made` and `connection_lost`.
- `net.refusals`: replaces `web.Server.request_handler`; filters errors of `aiohttp.http_exceptions` from the log.
  `worker.http.replies` and `daemon.replicate.files` catch these errors.
- `client.upload`: a `Payload` of our own, which writes to `AbstractStreamWriter`.
- `worker.http.transfers`: a `web.FileResponse` that overrides `prepare`; reads `total_bytes`.
- `worker.http.auth`, `worker.http.previews`, `daemon.event_feed`: abort `Request.transport`.
- `worker.http.tus`, `engines.cog_files`: give `Request.transport` to `net.direct_body`; `client.download`,
  `engines.http_engine` and `engines.models` give it that of a response.

websockets:

- `hub.admission`: a `ServerConnection` that overrides `connection_made`, `connection_lost`, `data_received` and
  `send_data`, reads `protocol.state`, `handshake_exc`, `close_sent` and `close_rcvd_then_sent`, and aborts `transport`.
- `hub.outbound`: writes complete frames to `transport`; `hub.front`, `hub.fronts` and `hub.server` abort it, and
  `client.pair` asks it for the certificate.
- `net.hub_link`: overrides `connect.process_redirect`; sends with `broadcast`, which does not wait.

asyncio, for both: `net.acceptor` removes a listener's reader from the loop, and accepts its connections with a socket
that overrides `accept`; `runtime.windows_loop` overrides `IocpProactor.accept`.
"""
