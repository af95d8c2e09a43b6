//! The socket buffer of TC programs: its fields and the helpers that change it.

use core::{
    arch::asm,
    mem::{MaybeUninit, offset_of},
    ptr,
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_ADJ_ROOM_ENCAP_L2_MASK, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_tunnel_key,
    },
    bpf_f_adj_room_encap_l2, helpers,
};
use vtep_common::{
    DropReason,
    wire::{
        ethernet::{self, ethertype},
        ip,
    },
};

use crate::packet::Packet;

/// The frame is not for us: the next program or the stack has it. Under tcx this is `TCX_NEXT`.
pub const NOT_OURS: i32 = -1;
/// The frame ends here.
pub const DROP: i32 = TC_ACT_SHOT;

/// To this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

/// `BPF_F_ADJ_ROOM_DECAP_L4_UDP` of linux/bpf.h, newer than 6.18: takes the marks of a UDP tunnel off
/// a merged packet. Older kernels refuse it before they change anything.
const ADJ_ROOM_DECAP_L4_UDP: u64 = 1 << 10;

const _: () = assert!(ethernet::HEADER <= BPF_ADJ_ROOM_ENCAP_L2_MASK);

/// What a collect-metadata device says of the tunnel that a frame came by.
#[derive(Clone, Copy)]
pub struct Tunnel {
    /// The VNI.
    pub vni: u32,
    /// Outer IPv4 source.
    pub source_be: u32,
}

/// A context that the kernel handed to a TC program.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Skb(*mut __sk_buff);

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name(self) -> u32 {
                // SAFETY: the kernel's context, valid for the program's run. Volatile, so that
                // neighbouring fields are not fetched together, which the verifier refuses.
                unsafe { ptr::read_volatile(&raw const (*self.0).$name) }
            }
        )*
    };
}

impl Skb {
    /// From a program's argument.
    #[inline(always)]
    pub fn new(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// For functions that the verifier goes through on their own, which must take the context as it
    /// is.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut __sk_buff {
        self.0
    }

    fields! {
        /// Length of the frame, pages included, without a tag in `vlan_tci`.
        len,
        /// EtherType that the stack noted, in wire order. Header changes do not change it.
        protocol,
        /// The device that the frame came in by.
        ifindex,
        /// There is a tag in `vlan_tci`.
        vlan_present,
        /// The VLAN tag that was taken out of the bytes.
        vlan_tci,
        /// The EtherType of that tag, in wire order.
        vlan_proto,
        /// Size of a segment's payload, 0 for what is no GSO frame.
        gso_size,
        /// Number of segments of a GSO frame.
        gso_segs,
    }

    /// The bytes that can be accessed directly. Invalid after every helper that moves them.
    #[inline(always)]
    pub fn packet(self) -> Packet {
        // SAFETY: as for the fields.
        let (start, end) = unsafe {
            (
                ptr::read_volatile(&raw const (*self.0).data),
                ptr::read_volatile(&raw const (*self.0).data_end),
            )
        };
        Packet::new(start as usize, end as usize, self.len())
    }

    /// XDP metadata in front of the frame: bytes that look like a frame of their own.
    #[inline(always)]
    pub fn metadata(self) -> Packet {
        // SAFETY: as for the fields.
        let (start, end) = unsafe {
            (
                ptr::read_volatile(&raw const (*self.0).data_meta),
                ptr::read_volatile(&raw const (*self.0).data),
            )
        };
        Packet::new(start as usize, end as usize, 0)
    }

    /// Makes the first `bytes` of the frame, or all when there are fewer, directly accessible.
    #[inline(always)]
    pub fn pull(self, bytes: u32) -> Result<(), DropReason> {
        // SAFETY: as for the fields.
        let linear = unsafe {
            ptr::read_volatile(&raw const (*self.0).data_end)
                - ptr::read_volatile(&raw const (*self.0).data)
        };
        let wanted = if bytes < self.len() {
            bytes
        } else {
            self.len()
        };
        if linear >= wanted {
            return Ok(());
        }
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_pull_data(self.0, wanted) })
    }

    /// Cuts the frame off, or appends zeros. A GSO frame stops being one.
    #[inline(always)]
    pub fn resize(self, length: u32) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_change_tail(self.0, length, 0) })
    }

    /// Removes `bytes` behind the Ethernet header, which stays as it is. Refused when fewer bytes
    /// than an IP header would remain.
    #[inline(always)]
    pub fn shrink(self, bytes: u32) -> Result<(), DropReason> {
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
        self.adjust_room(-(bytes as i32), flags.into())
    }

    /// Removes the headers of a tunnel over IPv4: `bytes` behind the Ethernet header, which stays as
    /// it is. `v6` says that an IPv6 packet is left. Refused when less than an IP header is left.
    ///
    /// The stack goes by `protocol` when it segments and when the packet is received behind
    /// [`redirect_peer`]; a merged packet also keeps marks of the tunnel, which make some devices
    /// (tap) segment it in software. Both are put right where the kernel can do it.
    #[inline(always)]
    pub fn shrink_tunnel(self, bytes: u32, v6: bool) -> Result<(), DropReason> {
        let mut flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
        if v6 {
            flags |= BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
        }
        let less = -(bytes as i32);
        if self.gso_size() != 0
            && self
                .adjust_room(less, u64::from(flags) | ADJ_ROOM_DECAP_L4_UDP)
                .is_ok()
        {
            return Ok(());
        }
        let shrunk = self.adjust_room(less, flags.into());
        if shrunk.is_ok() || !v6 {
            return shrunk;
        }
        // Before Linux 6.3. This translates the outer header, which goes right afterwards.
        flags &= !BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_change_proto(self.0, ethertype::IPV6, 0) })?;
        self.adjust_room(less - (ip::V6_HEADER - ip::V4_HEADER) as i32, flags.into())
    }

    /// Inserts `bytes` zeros behind the Ethernet header, which stays as it is.
    #[inline(always)]
    pub fn grow(self, bytes: u32) -> Result<(), DropReason> {
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
        self.adjust_room(bytes as i32, flags.into())
    }

    /// Inserts `bytes` behind the Ethernet header, whose copy at the front stays, and notes that
    /// they are outer IPv4, UDP, and a tunnel header that ends with an inner Ethernet header: GSO
    /// stays possible. For IP frames only.
    #[inline(always)]
    pub fn grow_tunnel(self, bytes: u32) -> Result<(), DropReason> {
        let flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
            | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
            | BPF_F_ADJ_ROOM_ENCAP_L2_ETH
            | BPF_F_ADJ_ROOM_FIXED_GSO
            | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
        let inner = bpf_f_adj_room_encap_l2(ethernet::HEADER.into());
        self.adjust_room(bytes as i32, u64::from(flags) | inner)
    }

    #[inline(always)]
    fn adjust_room(self, bytes: i32, flags: u64) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_adjust_room(self.0, bytes, BPF_ADJ_ROOM_MAC, flags) })
    }

    /// Puts `bytes` zeros in front of the frame.
    #[inline(always)]
    pub fn prepend(self, bytes: u32) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_change_head(self.0, bytes, 0) })
    }

    /// Reads words at an offset, out of pages too.
    #[inline(always)]
    pub fn load<const N: usize>(self, at: u32) -> Result<[u32; N], DropReason> {
        let mut value = MaybeUninit::<[u32; N]>::uninit();
        let size = size_of::<[u32; N]>() as u32;
        // SAFETY: the helper writes `size` bytes or fails; any bytes are words.
        unsafe {
            done(helpers::bpf_skb_load_bytes(
                self.0.cast(),
                at,
                value.as_mut_ptr().cast(),
                size,
            ))?;
            Ok(value.assume_init())
        }
    }

    /// Copies `length` bytes at an offset, out of pages too; 1 to `ROOM`.
    ///
    /// # Safety
    /// There is room for `ROOM` bytes at `to`.
    #[inline(always)]
    pub unsafe fn copy<const ROOM: u32>(
        self,
        at: u32,
        to: *mut u8,
        length: u32,
    ) -> Result<(), DropReason> {
        // The verifier wants to see both bounds where the length is used. Hidden from the compiler, which
        // would compare earlier, and another register.
        let mut less_one = u64::from(length.wrapping_sub(1));
        // SAFETY: nothing is done.
        unsafe {
            asm!(
                "/* {less_one} */",
                less_one = inout(reg) less_one,
                options(nostack, nomem, pure, preserves_flags),
            );
        }
        if less_one >= u64::from(ROOM) {
            return Err(DropReason::Helper);
        }
        let length = (less_one + 1) as u32;
        // SAFETY: the kernel's context; the helper writes so many bytes or fails.
        done(unsafe { helpers::bpf_skb_load_bytes(self.0.cast(), at, to.cast(), length) })
    }

    /// Writes `T` at an offset; a checksum that covers it is kept right.
    #[inline(always)]
    pub fn store<T: Copy>(self, at: u32, value: &T) -> Result<(), DropReason> {
        let size = size_of::<T>() as u32;
        // SAFETY: the helper reads `size` bytes of an initialised value.
        done(unsafe {
            helpers::bpf_skb_store_bytes(
                self.0.cast(),
                at,
                ptr::from_ref(value).cast(),
                size,
                BPF_F_RECOMPUTE_CSUM.into(),
            )
        })
    }

    /// Takes the tag out of `vlan_tci`, if there is one, and puts another there unless `vlan` is 0.
    #[inline(always)]
    pub fn retag(self, vlan: u16) -> Result<(), DropReason> {
        if self.vlan_present() != 0 {
            // SAFETY: the kernel's context.
            done(unsafe { helpers::bpf_skb_vlan_pop(self.0) })?;
        }
        if vlan == 0 {
            return Ok(());
        }
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_vlan_push(self.0, ethernet::ethertype::C_TAG, vlan) })
    }

    /// The tunnel that the frame came by, IPv4 only.
    #[inline(always)]
    pub fn tunnel(self) -> Result<Tunnel, DropReason> {
        let mut key = MaybeUninit::<bpf_tunnel_key>::zeroed();
        // The fields up to `tunnel_label`, which all kernels know.
        let size = offset_of!(bpf_tunnel_key, __bindgen_anon_2) as u32;
        // SAFETY: the helper writes `size` bytes or fails; any bytes are a key.
        let key = unsafe {
            done(helpers::bpf_skb_get_tunnel_key(
                self.0,
                key.as_mut_ptr(),
                size,
                0,
            ))?;
            key.assume_init()
        };
        // SAFETY: without the flag for IPv6, the address is IPv4, in host order.
        let source = unsafe { key.__bindgen_anon_1.remote_ipv4 };
        Ok(Tunnel {
            vni: key.tunnel_id,
            source_be: source.to_be(),
        })
    }

    /// The flow's hash, computed when the device has not.
    #[inline(always)]
    pub fn flow_hash(self) -> u32 {
        // SAFETY: the kernel's context.
        unsafe { helpers::bpf_get_hash_recalc(self.0) }
    }

    /// Notes the flow's hash, which is then computed by nobody else.
    #[inline(always)]
    pub fn set_flow_hash(self, hash: u32) {
        // SAFETY: the kernel's context. The helper never fails.
        unsafe { helpers::bpf_set_hash(self.0, hash) };
    }

    /// The frame is for this host, whatever its destination MAC.
    #[inline(always)]
    pub fn set_to_host(self) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_skb_change_type(self.0, PACKET_HOST) })
    }

    /// Forgets the receive queue, which would select the transmit queue of another device.
    #[inline(always)]
    pub fn reset_queue(self) {
        // SAFETY: the kernel's context; the field may be written.
        unsafe { ptr::write_volatile(&raw mut (*self.0).queue_mapping, 0) }
    }

    /// Transmits a copy. Other than with [`redirect`], what becomes of it is known at once: a queue that is
    /// full, a program at egress or a device that is down or gone may refuse it.
    #[inline(always)]
    pub fn send_copy(self, ifindex: u32) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_clone_redirect(self.0, ifindex, 0) })
            .map_err(|_| DropReason::Transmit)
    }
}

/// Transmits the frame on a device, once the program has returned this verdict.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: no pointer is involved.
    unsafe { helpers::bpf_redirect(ifindex, 0) as i32 }
}

/// Lets the other end of a veth receive the frame, once the program has returned this verdict.
#[inline(always)]
pub fn redirect_peer(ifindex: u32) -> i32 {
    // SAFETY: no pointer is involved.
    unsafe { helpers::bpf_redirect_peer(ifindex, 0) as i32 }
}

#[inline(always)]
fn done(result: i64) -> Result<(), DropReason> {
    if result == 0 {
        Ok(())
    } else {
        Err(DropReason::Helper)
    }
}
