//! The promise: every message that fits into a packet comes back from its bytes; any other bytes
//! give an error that names the field, and so does every message that is cut short or goes on too
//! long. No message is longer than a packet.
//!
//! Would catch: two messages with the same bytes, a field that is skipped, a length that is
//! believed, bytes after the end that are passed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::internals::{FUNCTION_LIMIT, Left, Reply, Request};
use bgw_core::{CodecError, Pid, Refusal, ShutdownMode, StartTime, WorkerHandle};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;

/// The longest packet, and the longest text of a refusal.
const MAX_PACKET: usize = 4096;
const MAX_DETAIL: usize = 200;

const MODES: [ShutdownMode; 3] = [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate];
const PHASES: [StartTime; 3] =
    [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
const REFUSALS: [Refusal; 15] = [
    Refusal::Protocol,
    Refusal::Layout,
    Refusal::NotAllowed,
    Refusal::ShuttingDown,
    Refusal::TooManyPeers,
    Refusal::Malformed,
    Refusal::NotAttached,
    Refusal::QueueFull,
    Refusal::ClusterReset,
    Refusal::NoFreeSlot,
    Refusal::TooManyDescriptors,
    Refusal::NoSegment,
    Refusal::TooManySegments,
    Refusal::TemplateFailed,
    Refusal::NotRegistered,
];

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<(u32, u64, bool)>().prop_map(|(protocol, layout_tag, read_only)| {
            Request::Hello { protocol, layout_tag, read_only }
        }),
        select(MODES.to_vec()).prop_map(Request::Shutdown),
        select(PHASES.to_vec()).prop_map(Request::Advance),
        Just(Request::Reload),
        Just(Request::Ping),
        "[^\u{0}]{0,40}".prop_map(Request::Refork),
        any::<u32>().prop_map(|from| Request::Functions { from }),
        any::<(u32, u64, u32)>().prop_map(|(slot, generation, incarnation)| {
            Request::RestartNow(WorkerHandle::new(slot, generation, incarnation))
        }),
        any::<(u32, u64, u32)>().prop_map(|(slot, generation, incarnation)| {
            Request::Kill(WorkerHandle::new(slot, generation, incarnation))
        }),
    ]
}

fn pid() -> impl Strategy<Value = Pid> {
    (1..=Pid::MAX).prop_map(|number| Pid::new(number).unwrap())
}

/// Names as the postmaster has them: not empty, without a NUL.
fn names() -> impl Strategy<Value = Vec<String>> {
    vec("[^\u{0}]{1,23}|[a-z]{60,95}", 0..12)
}

/// A reply as long as it may be: nothing of it is cut.
fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (any::<u32>(), pid(), pid(), any::<u32>(), any::<bool>()).prop_map(
            |(protocol, postmaster, owner, liveness, read_only)| Reply::Welcome {
                protocol,
                postmaster,
                owner,
                liveness,
                read_only
            }
        ),
        Just(Reply::Done),
        vec("[^\u{0}]{1,23}", 0..5).prop_map(Reply::Functions),
        (select(REFUSALS.to_vec()), any::<String>().prop_filter("cut", |d| d.len() <= MAX_DETAIL))
            .prop_map(|(reason, detail)| Reply::Refused { reason, detail }),
    ]
}

/// Bytes that begin like a message, and any.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..2 * MAX_PACKET),
        (0..9u8, vec(any::<u8>(), 0..40)).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
        (0..9u8, vec(0..4u8, 0..24)).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
        (3..=4u8, "\\PC{0,300}").prop_map(|(kind, text)| [&[kind, 1], text.as_bytes()].concat()),
    ]
}

fn assert_says_why(error: CodecError) {
    let text = error.to_string();
    match error {
        CodecError::Short { field } => assert!(text.contains(field), "{text}"),
        CodecError::Long { extra } => assert!(text.contains(&extra.to_string()), "{text}"),
        CodecError::Unknown { field, found } => {
            assert!(text.contains(field) && text.contains(&found.to_string()), "{text}");
        }
        other => assert_eq!(other, CodecError::Text),
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_request_comes_back_and_fits_into_a_packet(request in request()) {
        let bytes = request.encode();
        prop_assert!((1..=MAX_PACKET).contains(&bytes.len()));
        prop_assert_eq!(Request::decode(&bytes), Ok(request));
    }

    #[test]
    fn a_reply_comes_back_and_fits_into_a_packet(reply in reply()) {
        let bytes = reply.encode();
        prop_assert!((1..=MAX_PACKET).contains(&bytes.len()));
        prop_assert_eq!(Reply::decode(&bytes), Ok(reply));
    }

    /// Fails when a field may be missing: each shorter request is an error, and tells in which
    /// field.
    #[test]
    fn a_request_cut_at_any_length_is_an_error(request in request()) {
        let bytes = request.encode();
        for len in 0..bytes.len() {
            let error = Request::decode(&bytes[..len]).unwrap_err();
            prop_assert!(matches!(error, CodecError::Short { .. }), "{} bytes: {}", len, error);
            assert_says_why(error);
        }
    }

    /// The text of a refusal, and the names, are the rest of the packet: those are cut, not short.
    #[test]
    fn a_reply_cut_at_any_length_is_an_error_or_has_a_shorter_text(reply in reply()) {
        let bytes = reply.encode();
        for len in 0..bytes.len() {
            match (Reply::decode(&bytes[..len]), &reply) {
                (Ok(Reply::Refused { reason: cut, detail: less }), Reply::Refused { reason, detail }) => {
                    prop_assert!(cut == *reason && detail.starts_with(&less) && less != *detail);
                }
                (Ok(Reply::Functions(less)), Reply::Functions(names)) => {
                    prop_assert!(less.len() <= names.len());
                    for (less, name) in less.iter().zip(names) {
                        prop_assert!(name.starts_with(less.as_str()));
                    }
                }
                (Err(CodecError::Text), Reply::Refused { .. } | Reply::Functions(_)) => {}
                (answer, _) => {
                    let error = answer.unwrap_err();
                    prop_assert!(matches!(error, CodecError::Short { .. }), "{} bytes: {}", len, error);
                    assert_says_why(error);
                }
            }
        }
    }

    /// Fails when bytes behind a message are passed over.
    #[test]
    fn bytes_after_a_message_are_an_error_that_counts_them(
        request in request(),
        more in vec(any::<u8>(), 1..2 * MAX_PACKET),
    ) {
        let bytes = [request.encode(), more.clone()].concat();
        prop_assert_eq!(Request::decode(&bytes), Err(CodecError::Long { extra: more.len() }));
        for reply in [Reply::Done, welcome()] {
            let bytes = [reply.encode(), more.clone()].concat();
            prop_assert_eq!(Reply::decode(&bytes), Err(CodecError::Long { extra: more.len() }));
        }
    }

    /// And what decodes has these bytes and no others, but for names: an empty packet part counts.
    #[test]
    fn any_bytes_give_a_message_or_an_error(bytes in bytes()) {
        match Request::decode(&bytes) {
            Ok(request) => prop_assert_eq!(request.encode(), bytes.clone()),
            Err(error) => assert_says_why(error),
        }
        match Reply::decode(&bytes) {
            Ok(Reply::Functions(names)) => {
                prop_assert!(names.iter().all(|name| !name.contains('\0')));
            }
            Ok(Reply::Refused { reason, detail }) if detail.len() > MAX_DETAIL => {
                prop_assert!(REFUSALS.contains(&reason));
            }
            Ok(reply) => prop_assert_eq!(reply.encode(), bytes),
            Err(error) => assert_says_why(error),
        }
    }

    /// Fails when a packet is filled beyond its end, or a name is cut: names that do not fit are
    /// left for the next one, and at least one of any length that a worker may name always fits.
    #[test]
    fn names_fill_a_packet_whole_or_wait_for_the_next(names in names()) {
        let bytes = Reply::Functions(names.clone()).encode();
        prop_assert!(bytes.len() <= MAX_PACKET);
        let Ok(Reply::Functions(some)) = Reply::decode(&bytes) else { panic!("{bytes:?}") };
        prop_assert_eq!(&names[..some.len()], &some[..]);
        prop_assert!(names.is_empty() || !some.is_empty());
        if let Some(next) = names.get(some.len()) {
            prop_assert!(bytes.len() + next.len() + 1 > MAX_PACKET, "one more had fitted");
        }
    }

    /// Whatever the postmaster has to say, it says as much as fits.
    #[test]
    fn a_long_reason_is_cut_between_characters(detail in "\\PC{0,400}", reason in select(REFUSALS.to_vec())) {
        let bytes = Reply::Refused { reason, detail: detail.clone() }.encode();
        let Ok(Reply::Refused { reason: same, detail: some }) = Reply::decode(&bytes) else {
            panic!("{bytes:?}")
        };
        prop_assert_eq!(same, reason);
        prop_assert!(detail.starts_with(&some));
        prop_assert!(some.len() <= MAX_DETAIL);
        prop_assert!(some == detail || some.len() > MAX_DETAIL - 4, "{} bytes", some.len());
    }
}

/// What no packet can hold is no message: it would not come out again as it went in.
#[test]
fn more_workers_that_are_left_than_fit_into_a_packet_are_refused() {
    for (count, fits) in [(0, true), (Left::IN_A_PACKET, true), (Left::IN_A_PACKET + 1, false)] {
        let left =
            Left { worker: WorkerHandle::new(1, 2, 3), pid: 4, told_for: 5, killed_in: u64::MAX };
        let one = Reply::Left(vec![left]).encode();
        let bytes = [&one[..1], &one[1..].repeat(count)].concat();
        let decoded = Reply::decode(&bytes);
        assert_eq!(decoded.is_ok(), fits, "{count}");
    }
}

fn welcome() -> Reply {
    let (postmaster, owner) = (Pid::new(1).unwrap(), Pid::new(Pid::MAX).unwrap());
    Reply::Welcome { protocol: 1, postmaster, owner, liveness: 1, read_only: false }
}

/// The first byte, and each code behind it.
#[test]
fn a_code_that_means_nothing_is_named_with_its_field() {
    let unknown = |field, found: u8| CodecError::Unknown { field, found: found.into() };
    for kind in [0].into_iter().chain(16..=u8::MAX) {
        assert_eq!(Request::decode(&[kind]), Err(unknown("request", kind)));
    }
    for kind in [0].into_iter().chain(12..=u8::MAX) {
        assert_eq!(Reply::decode(&[kind]), Err(unknown("reply", kind)));
    }
    for code in 3..=u8::MAX {
        assert_eq!(Request::decode(&[2, code]), Err(unknown("mode", code)));
        assert_eq!(Request::decode(&[3, code]), Err(unknown("phase", code)));
    }
    for code in 15..=u8::MAX {
        assert_eq!(Reply::decode(&[3, code, b'x']), Err(unknown("reason", code)));
    }
    let mut hello = Request::Hello { protocol: 1, layout_tag: 2, read_only: true }.encode();
    *hello.last_mut().unwrap() = 2;
    assert_eq!(Request::decode(&hello), Err(unknown("read only", 2)));
}

/// A pid out of range never becomes a `Pid`.
#[test]
fn a_welcome_in_the_name_of_no_process_is_refused() {
    for (at, field) in [(5, "postmaster"), (9, "owner")] {
        for number in [0, Pid::MAX + 1, u32::MAX] {
            let mut bytes = welcome().encode();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            let found = number.into();
            assert_eq!(Reply::decode(&bytes), Err(CodecError::Unknown { field, found }));
        }
    }
}

/// The longest name of a function fits into a packet with four more of its kind.
#[test]
fn the_packet_has_room_for_what_it_is_meant_for() {
    let names = vec!["x".repeat(FUNCTION_LIMIT); 5];
    assert_eq!(
        Reply::decode(&Reply::Functions(names.clone()).encode()),
        Ok(Reply::Functions(names))
    );
    let longest = Reply::Refused { reason: Refusal::Layout, detail: "x".repeat(MAX_DETAIL) };
    assert!(longest.encode().len() < MAX_PACKET);
}
