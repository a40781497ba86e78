//! Which images go when the disk gets full.

use jiff::Timestamp;

/// Images are removed when more than this share of the disk is used …
const HIGH_PERCENT: u64 = 85;
/// … until no more than this is.
const LOW_PERCENT: u64 = 80;
/// An image that came less than this ago may be about to be used.
const AGE_MIN_S: i64 = 120;

/// An image on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The runtime's id.
    pub id: String,
    /// What its removal frees, at most.
    pub size_bytes: u64,
    /// When it was first seen on this node by this process.
    pub first_seen: Timestamp,
    /// When a container last used it, as far as this process knows.
    pub last_used: Option<Timestamp>,
    /// It may never be removed: a container uses it, or the runtime needs it.
    pub is_pinned: bool,
}

/// The images to remove, in order, and how many bytes there are to be freed; nothing unless the disk is too full.
pub fn superfluous_images(
    images: &[ImageUse],
    used_bytes: u64,
    capacity_bytes: u64,
    now: Timestamp,
) -> Option<(Vec<ImageUse>, u64)> {
    let share =
        |percent: u64| u64::try_from(u128::from(capacity_bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    if capacity_bytes == 0 || used_bytes < share(HIGH_PERCENT) {
        return None;
    }
    let to_free = used_bytes.saturating_sub(share(LOW_PERCENT));
    let age = |image: &ImageUse| now.duration_since(image.first_seen).as_secs();
    let mut free: Vec<&ImageUse> = images
        .iter()
        .filter(|image| !image.is_pinned && age(image) >= AGE_MIN_S)
        .collect();
    free.sort_by_key(|image| (image.last_used, image.first_seen));
    let mut freed: u64 = 0;
    let chosen = free.into_iter().take_while(|image| {
        let more = freed < to_free;
        freed = freed.saturating_add(image.size_bytes);
        more
    });
    Some((chosen.cloned().collect(), to_free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn image(id: &str, last_used: Option<i64>) -> ImageUse {
        ImageUse {
            id: id.into(),
            size_bytes: 3,
            first_seen: at(0),
            last_used: last_used.map(at),
            is_pinned: false,
        }
    }

    fn check(images: &[ImageUse], used: u64, now: i64, expected: Option<&[&str]>) {
        let found = superfluous_images(images, used, 100, at(now));
        let ids: Option<Vec<String>> = found.map(|(images, _)| images.into_iter().map(|i| i.id).collect());
        let ids: Option<Vec<&str>> = ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
        assert_eq!(ids.as_deref(), expected);
    }

    #[test]
    fn the_longest_unused_go_first_until_enough_is_free() {
        let images = [image("new", Some(50)), image("never", None), image("old", Some(10))];
        check(&images, 84, 1000, None);
        check(&images, 85, 1000, Some(&["never", "old"]));
        check(&images, 99, 1000, Some(&["never", "old", "new"]));
    }

    #[test]
    fn what_is_used_or_fresh_stays() {
        let mut used = image("used", None);
        used.is_pinned = true;
        check(&[used, image("free", None)], 99, 1000, Some(&["free"]));
        check(&[image("fresh", None)], 99, 119, Some(&[]));
    }
}
