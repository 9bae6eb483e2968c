//! Reads and writes at computed positions: each row's own, or those of the row that an index names by its place.

use super::layout::Operand;
use super::transfer::at;
use super::{Analysis, Content, Placed, Rows, Why};

impl Analysis<'_> {
    pub(super) fn gather(&self, data: Operand<'_>, indices: Operand<'_>, axis: usize) -> Placed {
        let taken = indices.1.len();
        match (data.0, indices.0) {
            (None, None) => Ok(None),
            (None, Some(rows)) => {
                self.no_places(Some(rows))?;
                at(rows, axis + rows.axis)
            }
            (Some(rows), None) => {
                self.no_places(Some(rows))?;
                match rows.axis {
                    before if before < axis => at(rows, before),
                    same if same == axis => Err(Why::Along),
                    after => at(rows, after + taken - 1),
                }
            }
            // Each row of the indices reads its own row of the data.
            (Some(rows), Some(places)) if rows.axis == axis && self.is_place(places, rows, data.1) => {
                own(places, axis + places.axis)
            }
            _ => Err(Why::Together),
        }
    }

    pub(super) fn gather_elements(&self, data: Operand<'_>, indices: Operand<'_>, axis: usize) -> Placed {
        match (data.0, indices.0) {
            (None, None) => Ok(None),
            // Only `axis` of the data may have another size than the indices have.
            (None, Some(rows)) if rows.axis == axis => {
                self.no_places(Some(rows))?;
                Ok(Some(rows.clone()))
            }
            (Some(rows), Some(_)) if rows.axis != axis => self.joined([data, indices]),
            (Some(rows), _) if rows.axis == axis => Err(Why::Along),
            _ => Err(Why::Together),
        }
    }

    pub(super) fn gather_nd(&self, data: Operand<'_>, indices: Operand<'_>, batch_dims: usize) -> Placed {
        let (named, coordinates) = self.coordinates(indices)?;
        let addressed = batch_dims + coordinates;
        match (data.0, indices.0) {
            (None, None) => Ok(None),
            (None, Some(rows)) if rows.axis >= batch_dims => {
                self.no_places(Some(rows))?;
                at(rows, rows.axis)
            }
            (Some(rows), None) if rows.axis >= addressed => {
                self.no_places(Some(rows))?;
                at(rows, rows.axis - addressed + named)
            }
            (Some(rows), None) if rows.axis >= batch_dims => Err(Why::Along),
            (Some(rows), Some(_)) if rows.axis < batch_dims => self.joined([data, indices]),
            _ => Err(Why::Together),
        }
    }

    pub(super) fn scatter_nd(&self, data: Operand<'_>, indices: Operand<'_>, updates: Operand<'_>) -> Placed {
        let (named, coordinates) = self.coordinates(indices)?;
        match (data.0, indices.0, updates.0) {
            (None, None, None) => Ok(None),
            (Some(rows), None, Some(changed)) if rows.axis >= coordinates => {
                let shifted = Rows { axis: rows.axis - coordinates + named, ..rows.clone() };
                let same = data.1.get(rows.axis).zip(updates.1.get(shifted.axis));
                self.no_places(Some(rows)).and(self.no_places(Some(changed)))?;
                if !same.is_some_and(|(a, b)| self.same_size(a, b)) {
                    return Err(Why::Together);
                }
                at(&self.aligned(&shifted, changed)?, rows.axis)
            }
            (Some(rows), None, _) if rows.axis < coordinates => Err(Why::Along),
            _ => Err(Why::Together),
        }
    }

    /// The axes before the last of indices, and how many numbers the last has.
    pub(super) fn coordinates(&self, indices: Operand<'_>) -> Result<(usize, usize), Why> {
        let (last, outer) = indices.1.split_last().ok_or(Why::Unknown)?;
        let count = last.as_static().and_then(|count| usize::try_from(count).ok()).ok_or(Why::Unknown)?;
        Ok((outer.len(), count))
    }
}

/// Rows that depend on what they are made of, on another axis.
pub(super) fn own(rows: &Rows, axis: usize) -> Placed {
    at(&Rows { content: Content::Own, ..rows.clone() }, axis)
}
