//! Sequences of packets of several flows, in both directions, against a simple model. The fuzz target `flows`
//! does the same for longer.

mod model;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn from_udp_to_tun(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        model::inbound::check(&data);
    }

    #[test]
    fn from_tun_to_udp(data in proptest::collection::vec(any::<u8>(), 0..100)) {
        model::outbound::check(&data);
    }
}
