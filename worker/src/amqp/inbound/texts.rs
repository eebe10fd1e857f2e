//! Where a frame has short strings, and what of them isn't UTF-8. Layouts are those of AMQP 0-9-1 with RabbitMQ's
//! types of values, as lapin reads them. Long strings (the values of headers) are bytes to lapin, too, and stay.

/// First byte of a frame that holds a method.
pub(super) const METHOD: u8 = 1;
/// First byte of a frame that holds a message's properties.
pub(super) const HEADER: u8 = 2;
/// Bytes of a frame before its payload: type, channel, size of the payload.
pub(super) const HEAD: usize = 7;
/// Last byte of every frame.
const END: u8 = 0xCE;
/// The one class whose frames carry messages.
const BASIC: u16 = 60;
/// How deep tables and lists may be nested. RabbitMQ's own `x-death` needs 4. lapin reads them by recursion, and
/// thousands of levels, which fit into a frame, would overflow its stack and end the process.
const DEEPEST: u8 = 16;

/// Makes a frame readable, and says whether anything had to be changed. Lengths stay as they are: `?` stands for each
/// byte that isn't UTF-8, and tables and lists that are nested too deep become arrays of bytes. A frame that isn't well
/// formed stays as it is.
pub(super) fn repair(frame: &mut [u8]) -> bool {
    let [kind, inner @ .., END] = &*frame else { return false };
    let mut walk = FrameCursor { bytes: inner, at: HEAD - 1, patches: Vec::new() };
    let walked = match *kind {
        METHOD => walk.method(),
        HEADER => walk.header(),
        _ => None,
    };
    if walked.is_none() || walk.at < walk.bytes.len() || walk.patches.is_empty() {
        return false;
    }
    for (at, byte) in walk.patches {
        frame[1 + at] = byte;
    }
    true
}

/// A way through a frame; each step is `None` where the frame ends too early.
struct FrameCursor<'f> {
    bytes: &'f [u8],
    at: usize,
    /// What is to be put where.
    patches: Vec<(usize, u8)>,
}

impl<'f> FrameCursor<'f> {
    fn skip(&mut self, count: usize) -> Option<&'f [u8]> {
        let end = self.at.checked_add(count)?;
        let skipped = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(skipped)
    }

    fn byte(&mut self) -> Option<u8> {
        self.skip(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        self.skip(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// The length of what follows, which must be there.
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(u32::from_be_bytes(self.skip(4)?.try_into().ok()?)).ok()?;
        (length <= self.bytes.len() - self.at).then_some(length)
    }

    fn text(&mut self) -> Option<()> {
        let length = self.byte()?;
        let mut text = self.skip(length.into())?;
        while let Err(error) = str::from_utf8(text) {
            let (_, rest) = text.split_at(error.valid_up_to());
            let wrong = error.error_len().unwrap_or(rest.len());
            let first = self.at - rest.len();
            self.patches.extend((first..first + wrong).map(|at| (at, b'?')));
            text = &rest[wrong..];
        }
        Some(())
    }

    fn texts(&mut self, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.text())
    }

    fn table(&mut self, depth: u8) -> Option<()> {
        let end = self.length()? + self.at;
        while self.at < end {
            self.text()?;
            self.value(depth)?;
        }
        (self.at == end).then_some(())
    }

    fn list(&mut self, depth: u8) -> Option<()> {
        let end = self.length()? + self.at;
        while self.at < end {
            self.value(depth)?;
        }
        (self.at == end).then_some(())
    }

    fn value(&mut self, depth: u8) -> Option<()> {
        let kind = self.byte()?;
        let bytes = match kind {
            b'A' | b'F' if depth == DEEPEST => {
                self.patches.push((self.at - 1, b'x'));
                self.length()?
            }
            b'A' => return self.list(depth + 1),
            b'F' => return self.table(depth + 1),
            b'S' | b'x' => self.length()?,
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'L' | b'l' | b'd' | b'T' => 8,
            _ => return None,
        };
        self.skip(bytes).map(drop)
    }

    /// The three methods that bring a message; in all others the broker repeats what Slipway said.
    fn method(&mut self) -> Option<()> {
        match (self.short()?, self.short()?) {
            // deliver: consumer's tag; delivery's tag, redelivered; exchange, routing key
            (BASIC, 60) => {
                self.text()?;
                self.skip(9)?;
                self.texts(2)
            }
            // return: code; text, exchange, routing key
            (BASIC, 50) => {
                self.skip(2)?;
                self.texts(3)
            }
            // get-ok: delivery's tag, redelivered; exchange, routing key; how many more there are
            (BASIC, 71) => {
                self.skip(9)?;
                self.texts(2)?;
                self.skip(4).map(drop)
            }
            _ => None,
        }
    }

    fn header(&mut self) -> Option<()> {
        if self.short()? != BASIC {
            return None;
        }
        // Weight and size of the body.
        self.skip(2 + 8)?;
        let flags = self.short()?;
        for property in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            match property {
                13 => self.table(0)?,
                // Delivery mode, priority; timestamp.
                12 | 11 => self.skip(1).map(drop)?,
                6 => self.skip(8).map(drop)?,
                _ => self.text()?,
            }
        }
        Some(())
    }
}
