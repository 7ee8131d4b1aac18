#!/bin/sh
# The power button: what is in flight is served and reported, the lease is given back, then power off.
export PATH=/bin:/sbin
[ -f /run/stopping ] && exit 0
: > /run/stopping
echo "POWERBTN up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console
P=$(cat /run/guestd.pid); kill -TERM "$P"
i=0; while [ -d "/proc/$P" ] && [ $i -lt 300 ]; do usleep 100000; i=$((i+1)); done
kill -USR2 "$(cat /run/udhcpc.pid)"; usleep 200000
echo "OFF up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console
poweroff -f
