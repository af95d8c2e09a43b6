//! Agent to agent: hypervisors and the whole chain on real traffic.

mod bds;
mod flooding;
mod objects;
mod traffic;

use vtep_tests::Pair;

const ASN: u32 = Pair::ASN;
