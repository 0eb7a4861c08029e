#!/usr/bin/env bash
# A real S3 store that checks what S3 checks: Ceph's gateway over one monitor and one disk daemon, all on loopback.
#
#   radosgw.sh DIR PORT MONITOR_PORT SECRET
#
# It keeps everything in DIR, and prints READY when it answers. It ends its three daemons at SIGTERM, or when one of them
# ends. Its user has two keys with this secret: FULL, and PUTTER, which may only write.
set -euo pipefail
mkdir -p "$1"
dir=$(cd "$1" && pwd) port=$2 mon=$3 secret=$4 conf=$1/ceph.conf
cd / # Debian's ceph-osd looks for its classes in a relative folder
pids=()
stop() { # the newest first: the gateway releases its watches, then the disk daemon closes its file
  trap '' TERM INT
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || continue
    for _ in {1..50}; do kill -0 "${pids[i]}" 2>/dev/null || break; sleep 0.1; done
    kill -9 "${pids[i]}" 2>/dev/null || true
  done
  wait
}
trap stop EXIT
trap 'exit 0' TERM INT
daemon() { "$@" -c "$conf" -f >>"$dir/out.log" 2>&1 & pids+=($!); }
quietly() { "$@" >>"$dir/out.log" 2>&1; }
until_ok() {
  for ((end = SECONDS + 60; SECONDS < end; )); do
    quietly "$@" && return
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || { tail -n 5 "$dir"/*.log >&2; exit 1; }; done
    sleep 0.2
  done
  echo "no answer from: $*" >&2
  exit 1
}
mkdir -p "$dir/mon.a" "$dir/osd.0"
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$conf" <<C
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon]
auth cluster required = none
auth service required = none
auth client required = none
admin socket =
run dir = $dir
crash dir = $dir
log file = $dir/\$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
[mon]
mon data = $dir/mon.a
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = $dir/osd.0
osd objectstore = bluestore
bluestore block size = 10737418240
bluestore cache autotune = false
bluestore cache size = 67108864
osd class load list = *
osd class default list = *
osd mclock skip benchmark = true
[client]
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw dns name = localhost
rgw thread pool size = 32
C
quietly monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon]" "$dir/monmap"
quietly ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap"
daemon ceph-mon -i a
admin() { ceph -c "$conf" --connect-timeout 5 "$@"; }
until_ok admin mon stat
id=$(cat /proc/sys/kernel/random/uuid)
quietly admin osd new "$id"
quietly ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$id"
daemon ceph-osd -i 0
until_ok bash -c "ceph -c '$conf' osd stat | grep -q '1 up'"
daemon radosgw -n client.rgw
until_ok curl -sf -o /dev/null "http://127.0.0.1:$port/"
user() { quietly radosgw-admin -c "$conf" "$@"; }
user user create --uid=test --display-name=test --access-key=FULL --secret-key="$secret"
user subuser create --uid=test --subuser=test:putter --access=write
user key create --subuser=test:putter --key-type=s3 --access-key=PUTTER --secret-key="$secret"
echo READY
wait -n || true
echo "a daemon ended by itself: see $dir/*.log" >&2
exit 1
