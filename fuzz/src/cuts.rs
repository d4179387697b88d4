//! How the network cut a stream: said by the first bytes of an input, so that a seed is any stream
//! with a zero in front.

/// The pieces, and the stream they make. None: the input ends before its stream.
///
/// The first byte: 0, one piece; to 127, that many cuts modulo 8, two bytes each; from 128 on, even
/// pieces, one byte long and up. Never more than `pieces_max`, 8 or greater.
pub fn cut(data: &[u8], pieces_max: usize) -> Option<(Vec<&[u8]>, &[u8])> {
    let (&first, rest) = data.split_first()?;
    if 128 <= first {
        let step = usize::from(first - 127).max(rest.len().div_ceil(pieces_max));
        return Some((rest.chunks(step).collect(), rest));
    }
    let (places, stream) = rest.split_at_checked(2 * usize::from(first % 8))?;
    let mut places: Vec<usize> = places
        .chunks(2)
        .map(|pair| usize::from(pair[0]) | usize::from(pair[1]) << 8)
        .map(|place| place % (stream.len() + 1))
        .collect();
    places.push(stream.len());
    places.sort_unstable();
    let mut from = 0;
    let pieces = places.into_iter().map(|to| {
        let piece = &stream[from..to];
        from = to;
        piece
    });
    Some((pieces.collect(), stream))
}
