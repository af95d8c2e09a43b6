//! Messages, whole and damaged.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::wire::{ethernet::ethertype, guard};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const IP: [u8; 4] = [10, 0, 0, 7];
const ACK: &[u8] = &[53, 1, 5];
const LEASE: &[u8] = &[51, 4, 0, 0, 14, 16];

/// An Ethernet frame with UDP over IPv4.
fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((28 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 7]);
    frame.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The same over IPv6.
fn udp6(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    frame.extend([17, 64]);
    frame.extend([0xfe; 32]);
    frame.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The fixed part of a DHCPv4 message.
fn fixed(op: u8, ciaddr: [u8; 4], yiaddr: [u8; 4]) -> Vec<u8> {
    let mut message = vec![op, 1, 6, 0, 0xca, 0xfe, 0, 1, 0, 0, 0, 0];
    message.extend([ciaddr, yiaddr].concat());
    message.extend([0; 8]);
    message.extend(MAC.0);
    message.resize(FIXED, 0);
    message
}

const FIXED: usize = 236;

/// An IP packet with a reply that gives [`IP`].
fn reply(options: &[&[u8]]) -> Vec<u8> {
    let mut message = fixed(2, [0; 4], IP);
    message.extend([0x63, 0x82, 0x53, 0x63]);
    message.extend(options.concat());
    udp((67, 68), &message).split_off(14)
}

fn request(ciaddr: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut message = fixed(1, ciaddr, [0; 4]);
    message.extend([0x63, 0x82, 0x53, 0x63]);
    message.extend(options.concat());
    udp((68, 67), &message).split_off(14)
}

/// What a whole message says.
fn said(packet: &[u8]) -> (Kind, Vec<Lease>) {
    let message = Message::parse(packet).unwrap();
    if !message.v6 {
        assert_eq!(message.client, Some(MAC));
        assert_eq!(message.transaction, 0xcafe_0001);
    }
    (message.kind, message.leases.iter().collect())
}

fn lease(address: impl Into<IpAddr>, seconds: Option<u32>) -> Lease {
    let address = address.into();
    Lease { address, seconds }
}

fn option6(code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = code.to_be_bytes().to_vec();
    option.extend((value.len() as u16).to_be_bytes());
    option.extend(value);
    option
}

fn iaaddr(last: u8, preferred: u32, valid: u32, options: &[u8]) -> Vec<u8> {
    let mut value = vec![0xfd; 15];
    value.push(last);
    value.extend([preferred.to_be_bytes(), valid.to_be_bytes()].concat());
    value.extend(options);
    option6(5, &value)
}

fn ia_na(options: &[&[u8]]) -> Vec<u8> {
    option6(3, &[&[0; 12], &options.concat()[..]].concat())
}

fn message6(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let payload = [&[kind, 1, 2, 3], &options.concat()[..]].concat();
    let ports = if matches!(kind, 2 | 7) {
        (547, 546)
    } else {
        (546, 547)
    };
    udp6(ports, &payload).split_off(14)
}

fn address6(last: u8) -> IpAddr {
    let mut octets = [0xfd; 16];
    octets[15] = last;
    octets.into()
}

#[test]
fn an_ack_gives_its_lease() {
    let padding = [0; 9];
    for options in [
        &[ACK, LEASE, &[255]][..],
        &[
            &padding,
            LEASE,
            &[54, 4, 10, 0, 0, 1],
            ACK,
            &[255],
            &[9; 30],
        ],
        &[ACK, LEASE],
    ] {
        let want = (Kind::Reply, vec![lease(IP, Some(3600))]);
        assert_eq!(said(&reply(options)), want);
    }
    let endless = reply(&[ACK, &[51, 4, 255, 255, 255, 255], &[255]]);
    assert_eq!(said(&endless), (Kind::Reply, vec![lease(IP, None)]));
}

#[test]
fn what_gives_no_address() {
    for kind in [2, 6, 13] {
        let offer = reply(&[&[53, 1, kind], LEASE, &[255]]);
        assert_eq!(said(&offer), (Kind::Other, vec![]));
    }
    // To an INFORM (RFC 2131 §3.4).
    let mut message = fixed(2, IP, [0; 4]);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 5, 255]);
    let inform = udp((67, 68), &message).split_off(14);
    assert_eq!(said(&inform), (Kind::Reply, vec![]));
    let without = reply(&[ACK, &[255]]);
    assert_eq!(Message::parse(&without), Err(Fault::NoLease));
}

#[test]
fn bootp_has_no_lease() {
    let bare = udp((67, 68), &fixed(2, [0; 4], IP)).split_off(14);
    let other = udp((67, 68), &[fixed(2, [0; 4], IP), vec![7; 64]].concat()).split_off(14);
    let options = reply(&[&[1, 4, 255, 255, 255, 0], &[255]]);
    for packet in [bare, other, options] {
        assert_eq!(said(&packet), (Kind::Reply, vec![lease(IP, None)]));
    }
}

#[test]
fn what_clients_say() {
    for kind in [1, 3] {
        let message = request([0; 4], &[&[53, 1, kind], &[255]]);
        assert_eq!(said(&message), (Kind::Request, vec![]));
    }
    let inform = request(IP, &[&[53, 1, 8], &[255]]);
    assert_eq!(said(&inform), (Kind::Other, vec![]));
    let gone = vec![lease(IP, Some(0))];
    let release = request(IP, &[&[53, 1, 7], &[255]]);
    assert_eq!(said(&release), (Kind::Release, gone.clone()));
    let decline = request([0; 4], &[&[53, 1, 4], &[50, 4, 10, 0, 0, 7], &[255]]);
    assert_eq!(said(&decline), (Kind::Decline, gone));
    let decline = request([0; 4], &[&[53, 1, 4], &[255]]);
    assert_eq!(Message::parse(&decline), Err(Fault::Malformed));
}

/// RFC 2132 §9.3: options in `file`, in `sname`, in both.
#[test]
fn overloaded_fields() {
    for (overload, file, sname) in [
        (1, [ACK, LEASE].concat(), vec![]),
        (2, vec![], [ACK, LEASE].concat()),
        (3, ACK.to_vec(), LEASE.to_vec()),
    ] {
        let mut message = fixed(2, [0; 4], IP);
        message.extend([0x63, 0x82, 0x53, 0x63, 52, 1, overload, 255]);
        message[108..108 + file.len()].copy_from_slice(&file);
        message[44..44 + sname.len()].copy_from_slice(&sname);
        let packet = udp((67, 68), &message).split_off(14);
        let want = (Kind::Reply, vec![lease(IP, Some(3600))]);
        assert_eq!(said(&packet), want, "{overload}");
        // A name is no option.
        let mut plain = message.clone();
        plain[FIXED + 6] = 0;
        let packet = udp((67, 68), &plain).split_off(14);
        assert_eq!(said(&packet), (Kind::Reply, vec![lease(IP, None)]));
        // An option that leaves its field.
        message[108] = 53;
        message[109] = 200;
        message[44] = 53;
        message[45] = 200;
        let packet = udp((67, 68), &message).split_off(14);
        assert_eq!(Message::parse(&packet), Err(Fault::Malformed));
    }
    let packet = reply(&[&[52, 1, 4], ACK, LEASE, &[255]]);
    assert_eq!(Message::parse(&packet), Err(Fault::Malformed));
}

#[test]
fn what_is_said_twice_or_too_long_is_not_believed() {
    for options in [
        &[ACK, ACK, LEASE][..],
        &[ACK, LEASE, LEASE],
        &[ACK, &[51, 3, 0, 0, 1]],
        &[&[53, 2, 5, 5], LEASE],
        &[&[53, 0], LEASE],
        &[ACK, LEASE, &[12, 50, 1]],
        &[ACK, LEASE, &[12]],
    ] {
        assert_eq!(
            Message::parse(&reply(options)),
            Err(Fault::Malformed),
            "{options:?}"
        );
    }
    let mut token_ring = reply(&[ACK, LEASE, &[255]]);
    token_ring[28 + 1] = 6;
    assert_eq!(Message::parse(&token_ring), Err(Fault::Malformed));
}

#[test]
fn fragments() {
    for flags in [0x20, 0x3f, 0x00] {
        let mut packet = reply(&[ACK, LEASE, &[255]]);
        packet[6] = flags;
        packet[7] = 8;
        assert_eq!(Message::parse(&packet), Err(Fault::Fragment));
    }
    let mut packet = message6(7, &[&ia_na(&[&iaaddr(1, 10, 20, &[])])]);
    packet[6] = 44;
    assert_eq!(Message::parse(&packet), Err(Fault::Fragment));
}

/// Of a copy that ends early nothing is taken, unless what matters is there.
#[test]
fn every_copy_that_ends_early() {
    let packet = reply(&[
        &[1, 4, 255, 255, 255, 0],
        ACK,
        LEASE,
        &[12, 9],
        &[b'x'; 9],
        &[255],
    ]);
    let whole = Message::parse(&packet).unwrap();
    let enough = 28 + FIXED + 4 + 6 + ACK.len() + LEASE.len();
    for length in 0..packet.len() {
        let found = Message::parse(&packet[..length]);
        if length >= enough {
            assert_eq!(found, Ok(whole), "{length}");
        } else if length >= 28 {
            assert_eq!(found, Err(Fault::Cut), "{length}");
        } else {
            assert_eq!(found, Err(Fault::Malformed), "{length}");
        }
    }
    let packet = message6(
        7,
        &[&ia_na(&[&iaaddr(1, 10, 20, &[])]), &option6(23, &[0; 16])],
    );
    for length in 0..packet.len() {
        let found = Message::parse(&packet[..length]);
        assert!(
            matches!(found, Err(Fault::Cut | Fault::Malformed)),
            "{length}: {found:?}"
        );
    }
}

/// The same, when the headers say that there is no more.
#[test]
fn every_packet_that_ends_early() {
    let options = [ACK, LEASE, &[12, 3, 1, 2, 3], &[255]].concat();
    for length in 0..options.len() {
        let found = Message::parse(&reply(&[&options[..length]]));
        // No option at all is BOOTP.
        assert_eq!(found.is_ok(), [0, 9, 14].contains(&length), "{length}");
    }
    let whole = message6(7, &[&ia_na(&[&iaaddr(1, 10, 20, &[])])]);
    for length in 0..whole.len() - 48 {
        let mut packet = whole[..48 + length].to_vec();
        packet[4..6].copy_from_slice(&(8 + length as u16).to_be_bytes());
        packet[44..46].copy_from_slice(&(8 + length as u16).to_be_bytes());
        match Message::parse(&packet) {
            Ok(message) => assert!(length == 4 && message.leases.is_empty(), "{length}"),
            Err(fault) => assert_eq!(fault, Fault::Malformed),
        }
    }
}

#[test]
fn replies_of_dhcpv6() {
    let two = message6(
        7,
        &[
            &option6(1, &[1; 10]),
            &ia_na(&[&iaaddr(1, 10, 20, &[]), &option6(13, &[0, 0, b'o', b'k'])]),
            &option6(13, &[0, 0]),
            &ia_na(&[&iaaddr(2, u32::MAX, u32::MAX, &[])]),
            &option6(4, &[&[0; 4], &iaaddr(3, 5, 6, &[])[..]].concat()),
            // A prefix is no address of the VM.
            &option6(25, &[0; 41]),
        ],
    );
    let want = vec![
        lease(address6(1), Some(20)),
        lease(address6(2), None),
        lease(address6(3), Some(6)),
    ];
    assert_eq!(said(&two), (Kind::Reply, want));
    assert_eq!(Message::parse(&two).unwrap().transaction, 0x0001_0203);
    let gone = message6(7, &[&ia_na(&[&iaaddr(1, 0, 0, &[])])]);
    assert_eq!(
        said(&gone),
        (Kind::Reply, vec![lease(address6(1), Some(0))])
    );
}

/// RFC 8415 §18.2.10.1: a status that is no success, in each place, and what contradicts itself.
#[test]
fn refusals_of_dhcpv6() {
    let status = option6(13, &[0, 2]);
    let good = iaaddr(1, 10, 20, &[]);
    for options in [
        &[&ia_na(&[&good])[..], &status][..],
        &[&ia_na(&[&good, &status])],
        &[&ia_na(&[&iaaddr(1, 10, 20, &status)])],
        &[&ia_na(&[&iaaddr(1, 30, 20, &[])])],
    ] {
        assert_eq!(said(&message6(7, options)), (Kind::Reply, vec![]));
    }
    let advertise = message6(2, &[&ia_na(&[&good])]);
    assert_eq!(said(&advertise), (Kind::Other, vec![]));
    let relayed = message6(13, &[&ia_na(&[&good])]);
    assert_eq!(said(&relayed), (Kind::Other, vec![]));
}

#[test]
fn clients_of_dhcpv6() {
    for kind in [1, 3, 4, 5, 6] {
        assert_eq!(said(&message6(kind, &[])), (Kind::Request, vec![]));
    }
    let ia = ia_na(&[&iaaddr(1, 10, 20, &[])]);
    let addresses = vec![lease(address6(1), Some(20))];
    let release = message6(8, &[&ia]);
    assert_eq!(said(&release), (Kind::Release, addresses.clone()));
    let decline = message6(9, &[&ia]);
    assert_eq!(said(&decline), (Kind::Decline, addresses));
    assert_eq!(said(&message6(11, &[])), (Kind::Other, vec![]));
}

#[test]
fn by_ports() {
    for (frame, ethertype_be, server, client) in [
        (udp((68, 67), &[0; 20]), ethertype::IPV4, true, false),
        (udp((67, 68), &[0; 20]), ethertype::IPV4, false, true),
        // To a relay agent, and from a port that a guard does not know.
        (udp((67, 67), &[0; 20]), ethertype::IPV4, false, false),
        (udp((1067, 68), &[0; 20]), ethertype::IPV4, false, false),
        (udp6((546, 547), &[0; 20]), ethertype::IPV6, true, false),
        (udp6((547, 546), &[0; 20]), ethertype::IPV6, false, true),
        (udp6((547, 547), &[0; 20]), ethertype::IPV6, false, false),
    ] {
        let frame = &frame[..];
        assert_eq!(is_to_server(frame, ethertype_be), server);
        assert_eq!(is_to_client(frame, ethertype_be), client);
        for length in 0..38 {
            assert!(!is_to_server(&frame[..length], ethertype_be));
            assert!(!is_to_client(&frame[..length], ethertype_be));
        }
        // The guard refuses whatever could be learned from.
        let header = ethernet::Header {
            destination: MAC.to_bits(),
            source: MAC.to_bits(),
            ethertype_be,
        };
        assert!(!client || guard::serves(frame, &header));
    }
    let mut tcp = udp((67, 68), &[0; 20]);
    tcp[23] = 6;
    assert!(!is_to_client(&tcp[..], ethertype::IPV4));
}

proptest! {
    #[test]
    fn garbage(packet in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = Message::parse(&packet);
    }

    /// Garbage where a message has its options, whole and cut.
    #[test]
    fn garbage_in_options(
        options in proptest::collection::vec(any::<u8>(), 0..400),
        fields in proptest::collection::vec(any::<u8>(), 192),
        cut in 0..700_usize,
    ) {
        let mut packet = reply(&[&options]);
        packet[28 + 44..28 + FIXED].copy_from_slice(&fields);
        let whole = Message::parse(&packet);
        let part = Message::parse(&packet[..cut.min(packet.len())]);
        // What is there may be enough, and then says what the whole says, if that can be read.
        if let (Ok(part), Ok(whole)) = (part, whole) {
            prop_assert_eq!(part, whole);
        }
        let packet = message6(7, &[&options]);
        let _ = Message::parse(&packet);
    }

    /// Options that are well formed, with codes and lengths that matter.
    #[test]
    fn likely_options(
        options in proptest::collection::vec(
            (50..56_u8, proptest::collection::vec(0..6_u8, 0..5)), 0..12),
        cut in 240..400_usize,
    ) {
        let options: Vec<u8> = options
            .into_iter()
            .flat_map(|(code, value)| [vec![code, value.len() as u8], value].concat())
            .collect();
        let packet = reply(&[&options, &[255]]);
        let whole = Message::parse(&packet);
        let part = Message::parse(&packet[..cut.min(packet.len())]);
        if let (Ok(part), Ok(whole)) = (part, whole) {
            prop_assert_eq!(part.leases, whole.leases);
        }
    }
}
