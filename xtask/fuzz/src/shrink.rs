//! Shortens an input that fails.

/// The most tries: each starts a process.
const TRIES: usize = 300;

/// Takes blocks out and sets bytes to zero as long as the input fails.
pub(crate) fn shortest<E>(
    mut bytes: Vec<u8>,
    fails: &impl Fn(&[u8]) -> Result<bool, E>,
) -> Result<Vec<u8>, E> {
    let mut tries = 0;
    let mut block = bytes.len().next_power_of_two() / 2;
    while block > 0 {
        let mut at = 0;
        while at < bytes.len() && tries < TRIES {
            let end = (at + block).min(bytes.len());
            let mut without = bytes.clone();
            without.drain(at..end);
            let mut zeroed = bytes.clone();
            zeroed[at..end].fill(0);
            tries += 1;
            if fails(&without)? {
                bytes = without;
            } else if zeroed != bytes && fails(&zeroed)? {
                bytes = zeroed;
                at = end;
            } else {
                at = end;
            }
        }
        block /= 2;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn what_does_not_matter_goes() {
        let fails = |bytes: &[u8]| Ok::<_, ()>(bytes.contains(&7) && bytes.len() >= 3);
        let short = shortest((0..100).collect(), &fails).unwrap();
        assert_eq!(short.len(), 3);
        assert_eq!(short.iter().filter(|byte| **byte != 0).count(), 1);
    }
}
