//! The string table: every text once, by handle.

use std::collections::HashMap;
use std::sync::Arc;

/// What a table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringLimits {
    /// Bytes of text and of what keeping it takes.
    pub bytes: u64,
    pub count: u64,
}

impl Default for StringLimits {
    fn default() -> Self {
        // Far above what text models take in one call, far below what hurts a server.
        Self { bytes: 1 << 30, count: 1 << 24 }
    }
}

/// There is no room for another string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFull {
    #[error("strings take more than {} bytes or are more than {}", limits.bytes, limits.count)]
    Limits { limits: StringLimits },
    #[error(
        "strings take {needed_bytes} bytes, of which the last {missing_bytes} are over the memory budget"
    )]
    Quota { needed_bytes: u64, missing_bytes: u64 },
}

/// Memory that a table shares with others, who may take it first.
pub trait Quota: std::fmt::Debug + Send + Sync {
    /// Takes `bytes` more, which are the table's from then on; false when they are not there.
    fn take(&self, bytes: u64) -> bool;
}

/// What an entry takes besides its text: two pointers to it, its handle, counts, and room in the map.
const ENTRY_BYTES: u64 = 96;

/// Texts by handle, each once. Handle 0 is the empty string, so that zeroed memory is strings too.
///
/// A table can stand over another one whose handles stay valid in it: that of a call over that of its module. Texts are
/// bytes; functions that need UTF-8 say so when it is not.
#[derive(Clone, Debug)]
pub struct StringTable {
    base: Option<Arc<StringTable>>,
    /// Handles below this are the base's.
    first: u64,
    texts: Vec<Arc<[u8]>>,
    handles: HashMap<Arc<[u8]>, u64>,
    bytes: u64,
    limits: StringLimits,
    quota: Option<Arc<dyn Quota>>,
    /// Taken from the quota and not used yet.
    spare_bytes: u64,
}

/// What is taken from a quota at once, at least: strings come one by one.
const QUOTA_STEP_BYTES: u64 = 16 << 10;

impl Default for StringTable {
    fn default() -> Self {
        Self::new(StringLimits::default())
    }
}

impl StringTable {
    /// A table that holds the empty string.
    pub fn new(limits: StringLimits) -> Self {
        let empty: Arc<[u8]> = Arc::from([]);
        let handles = HashMap::from([(empty.clone(), 0)]);
        Self {
            base: None,
            first: 0,
            texts: vec![empty],
            handles,
            bytes: 0,
            limits,
            quota: None,
            spare_bytes: 0,
        }
    }

    /// A table with the strings of `base`, to which it adds without changing it.
    pub fn over(base: Arc<StringTable>, limits: StringLimits) -> Self {
        let first = base.len();
        let (texts, handles) = (Vec::new(), HashMap::new());
        Self { base: Some(base), first, texts, handles, bytes: 0, limits, quota: None, spare_bytes: 0 }
    }

    /// The table, which asks `quota` for the memory of every string it adds from now on.
    pub fn within(self, quota: Arc<dyn Quota>) -> Self {
        Self { quota: Some(quota), ..self }
    }

    /// The handle of `text`, which is added where it is new.
    ///
    /// # Errors
    /// When it is new and there is no room.
    pub fn intern(&mut self, text: &[u8]) -> Result<u64, TableFull> {
        if let Some(handle) = self.find(text) {
            return Ok(handle);
        }
        let bytes = self.bytes.saturating_add(text.len() as u64).saturating_add(ENTRY_BYTES);
        if bytes > self.limits.bytes || self.texts.len() as u64 >= self.limits.count {
            return Err(TableFull::Limits { limits: self.limits });
        }
        self.take(bytes - self.bytes)?;
        self.bytes = bytes;
        let handle = self.len();
        let text: Arc<[u8]> = Arc::from(text);
        self.texts.push(text.clone());
        self.handles.insert(text, handle);
        Ok(handle)
    }

    fn take(&mut self, bytes: u64) -> Result<(), TableFull> {
        let Some(quota) = self.quota.as_ref().filter(|_| bytes > self.spare_bytes) else {
            self.spare_bytes = self.spare_bytes.saturating_sub(bytes);
            return Ok(());
        };
        let missing_bytes = bytes - self.spare_bytes;
        // A little ahead, or else just what it takes.
        for step in [missing_bytes.max(QUOTA_STEP_BYTES), missing_bytes] {
            if quota.take(step) {
                self.spare_bytes = step - missing_bytes;
                return Ok(());
            }
        }
        Err(TableFull::Quota { needed_bytes: self.bytes.saturating_add(bytes), missing_bytes })
    }

    /// The handle of `text`, if the table has it.
    pub fn find(&self, text: &[u8]) -> Option<u64> {
        let own = || self.handles.get(text).copied();
        self.base.as_ref().and_then(|base| base.find(text)).or_else(own)
    }

    /// The text of a handle; `None` for what is no handle.
    pub fn get(&self, handle: u64) -> Option<&[u8]> {
        match (handle.checked_sub(self.first), &self.base) {
            (Some(own), _) => self.texts.get(usize::try_from(own).ok()?).map(|text| &**text),
            (None, Some(base)) => base.get(handle),
            (None, None) => None,
        }
    }

    /// How many strings there are; handles are below this.
    pub fn len(&self) -> u64 {
        self.first + self.texts.len() as u64
    }

    /// Whether there is only the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// Every text in the order of handles, without those of a table below.
    pub fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.iter().map(|text| &**text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_have_equal_handles() {
        let mut table = StringTable::default();
        let (a, b) = (table.intern(b"a").unwrap(), table.intern(b"b").unwrap());
        assert_eq!((table.intern(b"").unwrap(), a, b), (0, 1, 2));
        assert_eq!(table.intern(b"a").unwrap(), a);
        assert_eq!((table.get(b), table.get(3)), (Some(&b"b"[..]), None));
    }

    #[test]
    fn a_table_over_another_adds_without_changing_it() {
        let mut base = StringTable::default();
        let a = base.intern(b"a").unwrap();
        let base = Arc::new(base);
        let mut call = StringTable::over(base.clone(), StringLimits::default());
        assert_eq!(call.intern(b"a").unwrap(), a);
        let b = call.intern(b"b").unwrap();
        assert_eq!((b, call.get(b), call.get(a)), (2, Some(&b"b"[..]), Some(&b"a"[..])));
        assert_eq!((base.len(), call.len(), call.get(0)), (2, 3, Some(&b""[..])));
    }

    #[derive(Debug)]
    struct Left(std::sync::atomic::AtomicU64);

    impl Quota for Left {
        fn take(&self, bytes: u64) -> bool {
            use std::sync::atomic::Ordering::Relaxed;
            self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
        }
    }

    #[test]
    fn a_quota_is_asked_ahead_and_to_its_last_byte() {
        let left = Arc::new(Left((QUOTA_STEP_BYTES + ENTRY_BYTES + 5).into()));
        let mut table = StringTable::default().within(left.clone());
        assert_eq!(table.intern(b"ahead"), Ok(1));
        assert_eq!(left.0.load(std::sync::atomic::Ordering::Relaxed), ENTRY_BYTES + 5);
        // What is left of the step, and then what is left of the quota.
        let long = vec![b'x'; (QUOTA_STEP_BYTES - 2 * ENTRY_BYTES - 5) as usize];
        assert_eq!((table.intern(&long), table.intern(b"last!")), (Ok(2), Ok(3)));
        let full = TableFull::Quota {
            needed_bytes: QUOTA_STEP_BYTES + 2 * ENTRY_BYTES + 6,
            missing_bytes: ENTRY_BYTES + 1,
        };
        assert_eq!((table.intern(b"y"), table.intern(b"last!")), (Err(full), Ok(3)));
    }

    #[test]
    fn a_full_table_refuses_new_strings_only() {
        let mut table = StringTable::new(StringLimits { bytes: ENTRY_BYTES + 3, count: 10 });
        assert!(table.intern(b"four").is_err());
        assert_eq!(table.intern(b"abc"), Ok(1));
        assert_eq!((table.intern(b"abc"), table.intern(b"x").is_err()), (Ok(1), true));
    }
}
