#!/bin/sh
# Becomes a command in a new mount namespace, in which a real node has the places that its programs insist on
# (/run, /var/lib/kubelet, /var/log/containers, ...) for itself: nothing of them is seen or left on the host.
# Called as: unshare --mount --propagation private enclosure.sh NODE CACHE COMMAND...
#   NODE: the folder that keeps the node's data. CACHE: where its programs are.
set -eu
node=$1 cache=$2
shift 2
mount --make-rshared / # volumes that the kubelet mounts reach the containers that ask for it
mount -t tmpfs -o mode=0755 kiban /run
mkdir /run/upper /run/work /run/node /run/cache
mount --rbind "$node" /run/node
mount --rbind "$cache" /run/cache
mount -t overlay -o lowerdir=/var,upperdir=/run/upper,workdir=/run/work kiban /var
case $node in /var/*) mount --rbind /run/node "$node" ;; esac
case $cache in /var/*) mount --rbind /run/cache "$cache" ;; esac
for place in lib/cni lib/containerd lib/kubelet lib/volumes log/pods; do
    mkdir -p "/run/node/$place" "/var/$place"
    mount --bind "/run/node/$place" "/var/$place"
done
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
exec "$@"
