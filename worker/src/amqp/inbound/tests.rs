#![expect(clippy::unwrap_used, reason = "tests")]

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::task::noop_waker;
use lapin::protocol::basic::parse_properties;
use lapin::types::parsing::parse_field_table;
use proptest::prelude::*;

use super::stream::RepairedStream;
use super::*;

const END: u8 = 0xCE;
const ANYTHING: std::ops::Range<usize> = 0..8;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[END]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

fn long(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Every property there is: `text` as the short strings, `table` as the headers.
fn properties(text: &[u8], table: &[u8]) -> Vec<u8> {
    let headers = &long(b'F', table)[1..];
    let text = short(text);
    let [a, b] = [[&text[..], &text].concat(), [&text[..], &text, &text, &text].concat()];
    [&[0xFF, 0xFC][..], &a, headers, &[2, 9], &b, &[7; 8], &b].concat()
}

/// The properties of a message with a body of five bytes.
fn header(text: &[u8], table: &[u8]) -> Vec<u8> {
    frame(2, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], &properties(text, table)].concat())
}

fn deliver(tag: &[u8], exchange: &[u8], key: &[u8]) -> Vec<u8> {
    frame(1, &[&[0, 60, 0, 60][..], &short(tag), &[0; 9], &short(exchange), &short(key)].concat())
}

/// A connection that hands out pieces of these sizes, over and over, and isn't ready before each of them.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.turn += 1;
        if this.turn % 2 == 1 {
            return Poll::Pending;
        }
        let rest = &this.bytes[this.at..];
        let count = rest.len().min(buffer.len()).min(this.sizes[this.turn / 2 % this.sizes.len()]);
        buffer[..count].copy_from_slice(&rest[..count]);
        this.at += count;
        Poll::Ready(Ok(count))
    }
}

/// What a reader with buffers of these sizes gets of `bytes`.
fn read_in(bytes: &[u8], sizes: Vec<usize>, buffers: &[usize]) -> Vec<u8> {
    let pieces = Pieces { bytes: bytes.to_vec(), at: 0, sizes, turn: 0 };
    let (mut stream, mut read, waker) = (RepairedStream::new(pieces), Vec::new(), noop_waker());
    for size in buffers.iter().cycle() {
        let mut buffer = vec![0; *size];
        match Pin::new(&mut stream).poll_read(&mut Context::from_waker(&waker), &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(got) => read.extend(&buffer[..got.unwrap()]),
        }
    }
    read
}

fn repaired(bytes: &[u8]) -> Vec<u8> {
    read_in(bytes, vec![usize::MAX], &[bytes.len() + 1])
}

fn unchanged(bytes: &[u8]) {
    assert_eq!(repaired(bytes), bytes);
}

#[test]
fn only_bytes_that_are_no_utf_8_are_replaced_and_only_in_short_strings() {
    let wrong = "aß\u{10FFFF}".bytes().chain(*b"\xFF\xE2\x82x\xC3").collect::<Vec<_>>();
    let right = "aß\u{10FFFF}???x?".as_bytes();
    let table = |key: &[u8]| {
        let nested = [short(key), long(b'S', b"\xFF\xFE")].concat();
        let list = [long(b'F', &nested), long(b'x', b"\xFF"), vec![b'V']].concat();
        [short(key), long(b'A', &list), short(key), vec![b't', 1]].concat()
    };
    assert_eq!(repaired(&header(&wrong, &table(&wrong))), header(right, &table(right)));
    assert_eq!(repaired(&deliver(&wrong, &wrong, &wrong)), deliver(right, right, right));
    let returned = |text| frame(1, &[&[0, 60, 0, 50, 1, 56][..], &short(text), &short(text), &short(text)].concat());
    assert_eq!(repaired(&returned(&wrong)), returned(right));
    let got = |text| frame(1, &[&[0, 60, 0, 71][..], &[1; 9], &short(text), &short(text), &[0; 4]].concat());
    assert_eq!(repaired(&got(&wrong)), got(right));
}

#[test]
fn what_is_repaired_lapin_can_read() {
    let table = [short(b"\xFF"), long(b'S', b"\xFF"), short(b"\xFE\xFE"), long(b'A', b"V")].concat();
    assert!(parse_properties(&properties(b"\xFF", &table)[..]).is_err());
    let frame = repaired(&header(b"\xFF", &table));
    let (rest, properties) = parse_properties(&frame[texts::HEAD + 12..frame.len() - 1]).unwrap();
    assert!(rest.is_empty());
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "?");
    assert_eq!(properties.cluster_id().as_ref().unwrap().as_str(), "?");
    let keys = properties.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(keys, ["?", "??"]);
}

/// Tables in each other, as many as told.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| [short(b"k"), long(b'F', &inner)].concat())
}

#[test]
fn tables_that_are_nested_too_deep_for_a_stack_are_bytes() {
    unchanged(&header(b"t", &nested(16)));
    let deep = header(b"t", &nested(15_000));
    let frame = repaired(&deep);
    assert_eq!(frame.len(), deep.len());
    let table = &frame[texts::HEAD + 12 + 2 + 4..];
    let (_, read) = parse_field_table(table).unwrap();
    assert_eq!(read.inner().len(), 1);
    let changed: Vec<_> = deep.iter().zip(&frame).filter(|(a, b)| a != b).collect();
    assert_eq!(changed, [(&b'F', &b'x')]);
}

#[test]
fn bodies_heartbeats_and_other_methods_pass_whatever_is_in_them() {
    unchanged(&frame(3, b"\xFF\xFE\x02\x01"));
    unchanged(&frame(3, &vec![0xFF; 3 * 1024 * 1024]));
    unchanged(&[8, 0, 0, 0, 0, 0, 0, END]);
    // connection.close
    unchanged(&frame(1, &[&[0, 10, 0, 50, 1, 64][..], &short(b"\xFF"), &[0; 4]].concat()));
    unchanged(b"AMQP\0\0\x09\x01");
}

#[test]
fn what_is_no_frame_passes_for_lapin_to_refuse() {
    let header = header(b"\xFF", &[]);
    let altered = |at: usize, byte: u8| {
        let mut frame = header.clone();
        frame[at] = byte;
        frame
    };
    // No end; another class; a text, a table and a frame that are longer than what is there; a frame that is longer
    // than any.
    unchanged(&altered(header.len() - 1, 0));
    unchanged(&altered(texts::HEAD + 1, 61));
    unchanged(&altered(header.len() - 3, 0xF0));
    unchanged(&altered(texts::HEAD + 12 + 2 + 4, 0xF0));
    unchanged(&altered(6, header[6] + 1));
    unchanged(&altered(3, 0xFF));
    unchanged(&header[..header.len() - 1]);
    unchanged(&header[..3]);
    unchanged(&frame(2, &[]));
    unchanged(&frame(1, &[0, 60, 0, 60]));
    // Bytes behind the last property; a value of no known type.
    let payload = &header[texts::HEAD..header.len() - 1];
    unchanged(&frame(2, &[payload, &[0]].concat()));
    unchanged(&self::header(b"\xFF", &[&short(b"k")[..], b"?"].concat()));
}

#[test]
fn a_frame_that_is_longer_than_what_is_kept_passes_as_it_came() {
    let filler = |length| [short(b"\xFF"), long(b'S', &vec![b'f'; length])].concat();
    assert_ne!(repaired(&header(b"t", &filler(500_000))), header(b"t", &filler(500_000)));
    let longer = header(b"t", &filler(1_100_000));
    assert_eq!(read_in(&longer, vec![1000], &[4096]), longer);
}

/// A value of a header, right or wrong.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        bytes().prop_map(|bytes| long(b'S', &bytes)),
        any::<[u8; 8]>().prop_map(|number| [&b"l"[..], &number].concat()),
        any::<bool>().prop_map(|yes| vec![b't', yes.into()]),
        any::<u8>().prop_map(|kind| vec![kind]),
        bytes(),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let key = prop_oneof!["[a-zß]{0,5}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..5)];
        let table = prop::collection::vec((key, inner.clone()), 0..3);
        prop_oneof![
            table.prop_map(|entries| {
                long(
                    b'F',
                    &entries.iter().flat_map(|(key, value)| [short(key), value.clone()].concat()).collect::<Vec<_>>(),
                )
            }),
            prop::collection::vec(inner, 0..3).prop_map(|values| long(b'A', &values.concat())),
        ]
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![".{0,20}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..30)]
}

fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let any_frame = prop_oneof![
        4 => (text(), text(), value())
            .prop_map(|(text, key, value)| header(&text, &[short(&key), value].concat())),
        4 => (text(), text(), text()).prop_map(|(a, b, c)| deliver(&a, &b, &c)),
        4 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|body| frame(3, &body)),
        2 => Just(frame(8, &[])),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|any| frame(2, &any)),
        1 => prop::collection::vec(any::<u8>(), ANYTHING),
    ];
    prop::collection::vec(any_frame, 1..8).prop_map(|frames| frames.concat())
}

/// Frames of real messages, spoilt anywhere: what lapin still reads of them is taken as headers.
#[test]
fn fuzzed_frames_are_repaired_alike_and_their_headers_are_read() {
    let table =
        [short(b"x-death"), long(b'A', &long(b'F', &[short(b"queue"), long(b'S', b"slipway.deployments")].concat()))];
    let came = [deliver(b"tag", b"slipway.requests", b"slipway.project.ready.v1"), header(b"text", &table.concat())];
    slipway_protocol::fuzz::run("AMQP frames", &[&came.concat(), &came[1], &frame(3, b"hello")], |bytes| {
        let whole = repaired(bytes);
        assert_eq!(whole.len(), bytes.len());
        assert_eq!(read_in(bytes, vec![1, 7, 50], &[3, 64]), whole);
        let from = (texts::HEAD + 12).min(whole.len());
        if let Ok((_, properties)) = parse_properties(&whole[from..]) {
            let _ = properties.headers().as_ref().and_then(super::super::death::XDeath::read);
        }
    });
}

proptest! {
    #[test]
    fn however_it_comes_in_pieces_the_same_is_read(
        bytes in traffic(),
        sizes in prop::collection::vec(1_usize..60, 1..6),
        buffers in prop::collection::vec(1_usize..60, 1..6),
    ) {
        let whole = repaired(&bytes);
        prop_assert_eq!(whole.len(), bytes.len());
        prop_assert_eq!(&read_in(&bytes, sizes, &buffers), &whole);
        prop_assert_eq!(&repaired(&whole), &whole);
    }

    #[test]
    fn what_lapin_reads_stays_the_same_and_what_only_texts_spoil_becomes_readable(
        text in text(), key in text(), value in value(),
    ) {
        let came = header(&text, &[short(&key), value].concat());
        let read = repaired(&came);
        let properties = |frame: &[u8]| {
            parse_properties(&frame[texts::HEAD + 12..frame.len() - 1]).ok().filter(|(rest, _)| rest.is_empty()).is_some()
        };
        if properties(&came) {
            prop_assert_eq!(&read, &came);
        }
        prop_assert!(properties(&read) || read == came);
    }
}
