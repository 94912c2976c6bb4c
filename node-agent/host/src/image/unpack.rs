//! Unpacking, through every compression that the kernel's build offers.

use std::fmt;
use std::io::{self, Read};

use serde::Serialize;

use super::bytes::{u32_be, u32_le};

/// How a kernel is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// CONFIG_KERNEL_GZIP
    Gzip,
    /// CONFIG_KERNEL_BZIP2
    Bzip2,
    /// CONFIG_KERNEL_LZMA
    Lzma,
    /// CONFIG_KERNEL_XZ
    Xz,
    /// CONFIG_KERNEL_LZO
    Lzo,
    /// CONFIG_KERNEL_LZ4, the legacy frame
    Lz4,
    /// CONFIG_KERNEL_ZSTD
    Zstd,
    /// CONFIG_KERNEL_UNCOMPRESSED
    None,
    /// None that is known
    Unknown,
}

const LZO_MAGIC: &[u8] = &[0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];
const LZ4_MAGIC: u32 = 0x184c_2102;
const LZ4_BLOCK: usize = 8 << 20;
const LZO_BLOCK: u32 = 64 << 20;
/// KiB that a dictionary may take: the kernel's own build uses 128 MiB, and the tables come on top.
const LZMA_MEMORY: u32 = 160 << 10;

impl Compression {
    /// As the kernel's options and the tools are called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }

    /// By its first bytes.
    pub fn detect(packed: &[u8]) -> Option<Self> {
        let found = match packed {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0x5d, 0, 0, ..] => Self::Lzma,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x7f, b'E', b'L', b'F', ..] => Self::None,
            _ if packed.starts_with(LZO_MAGIC) => Self::Lzo,
            _ if u32_le(packed, 0) == Some(LZ4_MAGIC) => Self::Lz4,
            _ => return None,
        };
        Some(found)
    }
}

/// Why something does not unpack.
#[derive(Debug)]
pub(super) enum UnpackError {
    TooLarge { limit: u64 },
    Damaged(String),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "it unpacks to more than {limit} bytes"),
            Self::Damaged(why) => write!(f, "it is damaged: {why}"),
        }
    }
}

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Takes what was unpacked, piece by piece.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// How a kernel's payload unpacked: to how many bytes, or why not.
pub(super) struct Unpacked {
    pub(super) compression: Compression,
    pub(super) outcome: Result<u64, String>,
}

/// Unpacks a bzImage's payload. The kernel's build ends every one with the size of what is in it, gzip by
/// its own format, so that a payload that unpacks to another size is damaged.
pub(super) fn kernel(packed: &[u8], limit: u64, sink: &mut Sink<'_>) -> Unpacked {
    let Some(compression) = Compression::detect(packed) else {
        let shown: Vec<String> = packed.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let problem = format!("packed in a way that is not known (it begins with {})", shown.join(" "));
        return Unpacked { compression: Compression::Unknown, outcome: Err(problem) };
    };
    let announced = packed.len().checked_sub(4).and_then(|at| u32_le(packed, at));
    let body = match compression {
        Compression::Gzip | Compression::None => packed,
        _ => &packed[..packed.len().saturating_sub(4)],
    };
    let outcome = unpack(compression, body, limit, sink).map_err(|error| error.to_string());
    let outcome = outcome.and_then(|size| match announced {
        Some(announced) if compression != Compression::None && u64::from(announced) != size => {
            Err(format!("it is damaged: it unpacks to {size} bytes and announces {announced}"))
        }
        _ => Ok(size),
    });
    Unpacked { compression, outcome }
}

/// Unpacks one stream; the number of bytes in it.
pub(super) fn unpack(
    compression: Compression,
    packed: &[u8],
    limit: u64,
    sink: &mut Sink<'_>,
) -> Result<u64, UnpackError> {
    match compression {
        Compression::Gzip => drain(flate2::bufread::GzDecoder::new(packed), limit, sink),
        Compression::Bzip2 => drain(bzip2::bufread::BzDecoder::new(packed), limit, sink),
        Compression::Lzma => {
            drain(lzma_rust2::LzmaReader::new_mem_limit(packed, LZMA_MEMORY, None)?, limit, sink)
        }
        Compression::Xz => {
            drain(lzma_rust2::XzReader::new_mem_limit(packed, false, LZMA_MEMORY), limit, sink)
        }
        Compression::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(|error| UnpackError::Damaged(error.to_string()))?;
            drain(decoder, limit, sink)
        }
        Compression::Lz4 => lz4(packed, limit, sink),
        Compression::Lzo => lzo(packed, limit, sink),
        Compression::None => drain(packed, limit, sink),
        Compression::Unknown => Err(UnpackError::Damaged("its compression is not known".into())),
    }
}

fn drain(mut reader: impl Read, limit: u64, sink: &mut Sink<'_>) -> Result<u64, UnpackError> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => {
                total += read as u64;
                if total > limit {
                    return Err(UnpackError::TooLarge { limit });
                }
                sink(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The legacy frame: the magic number, then blocks of up to 8 MiB, each with its packed length before it.
fn lz4(packed: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<u64, UnpackError> {
    let mut block = Vec::new();
    let (mut at, mut total) = (4, 0);
    while at < packed.len() {
        let length = u32_le(packed, at).ok_or_else(cut)?;
        at += 4;
        if length == LZ4_MAGIC {
            continue;
        }
        let data = usize::try_from(length).ok().and_then(|length| packed.get(at..at.checked_add(length)?));
        let data = data.ok_or_else(cut)?;
        at += data.len();
        block.resize(LZ4_BLOCK, 0);
        let size = lz4_flex::block::decompress_into(data, &mut block)
            .map_err(|error| UnpackError::Damaged(error.to_string()))?;
        total = put(&block[..size], total, limit, sink)?;
    }
    Ok(total)
}

/// lzop's file: a header with optional fields, then blocks with optional checksums, up to one of length zero.
fn lzo(packed: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<u64, UnpackError> {
    const FILTER: u32 = 0x800;
    /// Checksums of the plain data (Adler-32, CRC-32) and of the packed.
    const PLAIN: [u32; 2] = [0x1, 0x100];
    const PACKED: [u32; 2] = [0x2, 0x200];
    let sums = |flags: u32, which: [u32; 2]| which.iter().filter(|bit| flags & **bit != 0).count() * 4;

    // Magic, version, library's version, version needed, method, level.
    let mut at = LZO_MAGIC.len() + 2 + 2 + 2 + 1 + 1;
    let flags = u32_be(packed, at).ok_or_else(cut)?;
    // Flags, filter if any, mode, time in two halves.
    at += 4 + if flags & FILTER != 0 { 4 } else { 0 } + 4 + 8;
    let name = usize::from(*packed.get(at).ok_or_else(cut)?);
    // Length, name, the header's checksum.
    at += 1 + name + 4;
    let mut block = Vec::new();
    let mut total = 0;
    loop {
        let plain = u32_be(packed, at).ok_or_else(cut)?;
        if plain == 0 {
            return Ok(total);
        }
        let length = u32_be(packed, at + 4).ok_or_else(cut)?;
        if plain > LZO_BLOCK || length > plain {
            return Err(UnpackError::Damaged("a block has a length that cannot be".into()));
        }
        at += 8 + sums(flags, PLAIN) + if length < plain { sums(flags, PACKED) } else { 0 };
        let data = packed.get(at..at + length as usize).ok_or_else(cut)?;
        at += data.len();
        if length == plain {
            total = put(data, total, limit, sink)?;
            continue;
        }
        block.resize(plain as usize, 0);
        let size = lzo::decompress_into(data, &mut block)
            .map_err(|error| UnpackError::Damaged(error.to_string()))?;
        if size != block.len() {
            return Err(UnpackError::Damaged("a block is shorter than it says".into()));
        }
        total = put(&block, total, limit, sink)?;
    }
}

fn put(data: &[u8], total: u64, limit: u64, sink: &mut Sink<'_>) -> Result<u64, UnpackError> {
    let total = total + data.len() as u64;
    if total > limit {
        return Err(UnpackError::TooLarge { limit });
    }
    sink(data);
    Ok(total)
}

fn cut() -> UnpackError {
    UnpackError::Damaged("it ends in the middle".into())
}
