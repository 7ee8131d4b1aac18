#!/bin/sh
# Process 1 of the demo guest: mounts, modules, identity, address, services.
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
# Open vSwitch in user space passes on checksums that virtio left unfinished, and who receives them drops the packet.
nova() { [ "$(cat /sys/class/dmi/id/product_name 2>/dev/null)" = "OpenStack Nova" ]; }
net=; if nova; then net="csum=0 gso=0"; fi
load() { while read -r m; do
  o=; case $m in */virtio_net.ko) o=$net;; esac
  # shellcheck disable=SC2086 # options are words
  insmod "$m" $o 2>/dev/null
done < "/etc/modules-$1"; }
load always
ip link set lo up

# Identity: a NoCloud seed on a disk that holds meta-data, or OpenStack's config drive, else the SMBIOS serial, else the MAC.
H=; IID=
seed() { for d in "$@"; do
  [ -b "$d" ] || continue
  mount -o ro -t iso9660 "$d" /mnt 2>/dev/null || mount -o ro -t vfat "$d" /mnt 2>/dev/null || continue
  if [ -f /mnt/meta-data ]; then
    H=$(sed -n 's/^local-hostname: *//p' /mnt/meta-data | tr -d "\"'\r")
    IID=$(sed -n 's/^instance-id: *//p' /mnt/meta-data | tr -d "\"'\r")
    cp /mnt/user-data /run/user-data 2>/dev/null
    umount /mnt; return 0
  fi
  if [ -f /mnt/openstack/latest/meta_data.json ]; then
    H=$(sed -n 's/.*"hostname": "\([^".]*\).*/\1/p' /mnt/openstack/latest/meta_data.json)
    IID=$(sed -n 's/.*"uuid": "\([^"]*\)".*/\1/p' /mnt/openstack/latest/meta_data.json)
    cp /mnt/openstack/latest/user_data /run/user-data 2>/dev/null
    umount /mnt; return 0
  fi
  umount /mnt
done; return 1; }
if [ -b /dev/vdb ]; then load seed; seed /dev/vd[b-f] /dev/vd[b-f]1; fi
S=$(cat /sys/class/dmi/id/product_serial 2>/dev/null)
case "$S" in ds=nocloud*) for kv in $(echo "${S#ds=nocloud}" | tr ';' ' '); do
  case $kv in
  h=*|local-hostname=*) [ -n "$H" ] || H=${kv#*=};;
  i=*|instance-id=*) [ -n "$IID" ] || IID=${kv#*=};;
  esac; done;; esac
# Drives other than virtio take long to look for, so only when nothing said who this is.
if [ -z "$H" ]; then load seed; load cdrom; sleep 0.5; seed /dev/sr0 /dev/sr1 /dev/sd[a-d]; fi
card() { for d in /sys/class/net/*; do [ "${d##*/}" = lo ] || { [ -e "$d" ] && N=${d##*/} && return 0; }; done; return 1; }
N=; tries=0; until card || [ $tries -ge 10 ]; do usleep 100000; tries=$((tries+1)); done
[ -n "$H" ] || H=vm-$(tr -d : < "/sys/class/net/$N/address" | tail -c 7)
hostname "$H"; echo "$H" > /etc/hostname; echo "${IID:-none}" > /run/instance-id

# guestd listens before the lease is there, so the address answers from its first moment.
guestd -listen :80 -host "$H" -instance-id "$IID" -collector-file /run/collector >/dev/console 2>&1 &
echo $! > /run/guestd.pid
ip link set "$N" up
udhcpc -i "$N" -O staticroutes -x hostname:"$H" -t 20 -T 1 -A 1 -f -R -S -s /usr/share/udhcpc/default.script >/dev/null 2>&1 &
echo $! > /run/udhcpc.pid
if [ -f /run/user-data ]; then head -1 /run/user-data | grep -q '^#!' && { chmod +x /run/user-data; /run/user-data >/dev/console 2>&1 & }; fi
# The agent is in images that were built with it; its port has a name once the driver has asked for it.
agent() {
  load agent; tries=0
  while [ $tries -lt 300 ]; do
    for p in /sys/class/virtio-ports/*; do
      if [ "$(cat "$p/name" 2>/dev/null)" = org.qemu.guest_agent.0 ]; then
        exec qemu-ga --method=virtio-serial --path="/dev/${p##*/}" --statedir=/run
      fi
    done
    tries=$((tries+1)); usleep 200000
  done
  echo "AGENT has no port" > /dev/console
}
if [ -x /bin/qemu-ga ]; then agent >/dev/console 2>&1 & echo $! > /run/agent.pid; fi
acpid -f -d >/dev/null 2>&1 &
echo "READY host=$H iid=$IID up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console
while :; do wait; sleep 1; done
