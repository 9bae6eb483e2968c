//! Strings of a module and of its calls, and the host functions that read and make them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ired_host::{HostCall, Quota, StringLimits, StringTable};
use ired_module::texts::{self, Texts};
use ired_module::{Module, SectionKind, TensorKind};

use crate::budget::{MemoryBudget, Reservation};
use crate::error::{LoadError, StringsError};

/// A host function as the module calls it.
#[derive(Debug)]
pub(crate) struct HostFunction {
    pub(crate) call: HostCall,
    pub(crate) origin: String,
    pub(crate) operands: Vec<TensorKind>,
    pub(crate) results: Vec<TensorKind>,
}

/// The strings of one call: handles in its inputs and outputs are of this. Clones are the same.
#[derive(Clone, Debug)]
pub struct CallStrings(Arc<Mutex<StringTable>>);

impl CallStrings {
    /// Strings over those of the module, in at most `memory_bytes`, and in what `budget` has left.
    pub(crate) fn over(
        constants: Arc<StringTable>,
        memory_bytes: u64,
        budget: Option<&Arc<MemoryBudget>>,
    ) -> Self {
        let limits = StringLimits::default();
        let limits = StringLimits { bytes: limits.bytes.min(memory_bytes), ..limits };
        let table = StringTable::over(constants, limits);
        // Nothing at first; as much as strings take later.
        let share = budget.and_then(|budget| budget.try_reserve(0));
        Self(Arc::new(Mutex::new(match share {
            Some(share) => table.within(Arc::new(Share(Mutex::new(share)))),
            None => table,
        })))
    }

    /// The handles, little-endian, of `count` strings that are laid out as [`ired_module::texts`] says.
    ///
    /// # Errors
    /// When they are not so many, or there is no room for them.
    pub fn intern(&self, bytes: &[u8], count: u64) -> Result<Vec<u8>, StringsError> {
        let found = texts::count(bytes);
        if found != Some(count) {
            return Err(StringsError::Count { found, expected: count });
        }
        let mut table = self.lock();
        let mut handles = Vec::with_capacity(count as usize * 8);
        for text in Texts::new(bytes) {
            handles.extend_from_slice(&table.intern(text)?.to_le_bytes());
        }
        Ok(handles)
    }

    /// The strings of `handles`, laid out as [`ired_module::texts`] says.
    ///
    /// # Errors
    /// When something in there is no handle.
    pub fn spell(&self, handles: &[u8]) -> Result<Vec<u8>, StringsError> {
        let (words, []) = handles.as_chunks() else {
            return Err(StringsError::HandleBytes { found: handles.len() });
        };
        let table = self.lock();
        let mut bytes = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let text = table.get(u64::from_le_bytes(*word)).ok_or(StringsError::NoString { index })?;
            if !texts::push(&mut bytes, text) {
                return Err(StringsError::TooLong { bytes: text.len() });
            }
        }
        Ok(bytes)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, StringTable> {
        // A table is sound whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a memory budget that the strings of a call take, given back with them.
#[derive(Debug)]
struct Share(Mutex<Reservation>);

impl Quota for Share {
    fn take(&self, bytes: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).try_grow(bytes)
    }
}

/// The module's string constants, whose handles are their positions.
pub(crate) fn constants(module: &Module<'_>) -> Result<Arc<StringTable>, LoadError> {
    let mut table = StringTable::default();
    for text in Texts::new(module.section(SectionKind::Texts)) {
        let index = table.len();
        match table.intern(text) {
            Ok(handle) if handle == index => {}
            Ok(_) => return Err(LoadError::Strings(StringsError::Twice { index })),
            Err(full) => return Err(LoadError::Strings(full.into())),
        }
    }
    Ok(Arc::new(table))
}

/// The host functions that the module calls, all of which there are.
pub(crate) fn host_calls(module: &Module<'_>) -> Result<Vec<HostFunction>, LoadError> {
    let calls = (0..module.host_calls()).filter_map(|index| module.host_call(index));
    let mut functions = Vec::new();
    for found in calls {
        let call = HostCall { function: found.function.to_owned(), attributes: found.attributes.to_vec() };
        let origin = found.origin.to_owned();
        ired_host::find(&call).map_err(|cause| LoadError::HostFunction { origin: origin.clone(), cause })?;
        let (operands, results) = (found.operands.iter().collect(), found.results.iter().collect());
        functions.push(HostFunction { call, origin, operands, results });
    }
    Ok(functions)
}
