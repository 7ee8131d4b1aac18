#!/bin/sh
# hold.sh STATE fake|qemu shared|own: holds the namespaces that the cloud's programs live in,
# until it is killed. They see no /run but this one, so that nothing of theirs
# lies or listens in the machine's. The network may be their own as well.
set -eu
state=$1
virt=$2
network=$3

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/octavia /run/openvswitch
# Where libvirt looks for OVS, whatever it is told.
mount --bind "$state/ovs" /run/openvswitch
if [ "$network" = own ]; then
	mount -t sysfs sysfs /sys
	ip link set lo up
fi
if [ "$virt" = qemu ]; then
	mkdir -p /run/netns /run/libvirt
	for pair in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt log:/var/log/libvirt; do
		mount --bind "$state/libvirt/${pair%%:*}" "${pair#*:}"
	done
fi
touch "$state/run/held"
exec sleep infinity
