#!/bin/sh
# Process 1 of the guest: this machine's root file system under a layer in memory, then the job.
# `cargo xtask vm` reads the last line.

bb=/bin/busybox
. /values

finish() {
    echo "vm: status $1"
    $bb poweroff -f
}

must() {
    "$@" || {
        echo "vm: $* failed"
        finish 125
    }
}

must $bb mount -t proc proc /proc
must $bb mount -t sysfs sysfs /sys
must $bb mount -t devtmpfs dev /dev
for module in virtio_pci 9pnet_virtio 9p overlay; do
    $bb modprobe -q $module
done
must $bb mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288 host /host
must $bb mount -t tmpfs scratch /scratch
$bb mkdir /scratch/upper /scratch/work
must $bb mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work \
    overlay /root
# From here on the kernel finds any module that somebody needs.
must $bb mount -o bind "/host$modules" "$library"

for virtual in proc sys; do
    must $bb mount -o bind /$virtual /root/$virtual
done
must $bb mount -t devtmpfs dev /root/dev
$bb mkdir -p /root/dev/pts /root/dev/shm
must $bb mount -t devpts devpts /root/dev/pts
must $bb mount -t tmpfs shm /root/dev/shm
must $bb mount -t tmpfs run /root/run
must $bb mount -t bpf bpf /root/sys/fs/bpf
$bb mkdir /root/run/lock /root/run/tmp
$bb ifconfig lo up
$bb hostname guest
# Devices that nothing asks for by name.
for module in virtio_net virtio_rng tun vhost_net; do
    $bb modprobe -q $module
done

$bb cp /job /root/run/job
echo "vm: Linux $($bb uname -r), up after $($bb cut -d ' ' -f 1 /proc/uptime) s"
$bb chroot /root /bin/sh /run/job
finish $?
