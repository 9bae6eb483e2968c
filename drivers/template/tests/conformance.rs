//! The template device obeys the device interface.

use std::sync::Arc;

use ired_driver_template::{Kernel, TemplateDevice, Workgroup};
use ired_hal::conformance::{self, Kernels};
use ired_hal::validate::Validated;
use ired_hal::{Device, HostAccessError};

/// The elements of a workgroup along x: constants are count and block.
fn block(group: &Workgroup<'_>) -> std::ops::Range<usize> {
    let (count, block) = (group.constants[0] as usize, group.constants[1] as usize);
    let start = group.id[0] as usize * block;
    start..count.min(start + block)
}

fn add_f32(group: Workgroup<'_>) -> Result<(), HostAccessError> {
    for i in block(&group) {
        let [lhs, rhs] = [group.bindings[0].get(i)?, group.bindings[1].get(i)?].map(f32::from_le_bytes);
        group.bindings[2].set(i, (lhs + rhs).to_le_bytes())?;
    }
    Ok(())
}

fn copy_bytes(group: Workgroup<'_>) -> Result<(), HostAccessError> {
    block(&group).try_for_each(|i| group.bindings[1].set::<1>(i, group.bindings[0].get(i)?))
}

fn scale_by_constant(group: Workgroup<'_>) -> Result<(), HostAccessError> {
    for i in block(&group) {
        let value = f32::from_le_bytes(group.bindings[0].get(i)?);
        group.bindings[1].set(i, (value * group.constants[2] as f32).to_le_bytes())?;
    }
    Ok(())
}

fn count_ids(group: Workgroup<'_>) -> Result<(), HostAccessError> {
    let [x, y, z] = group.id.map(|id| id as usize);
    let (width, height) = (group.constants[0] as usize, group.constants[1] as usize);
    let index = (z * height + y) * width + x;
    let before = u32::from_le_bytes(group.bindings[0].get(index)?);
    group.bindings[0].set(index, (before + index as u32 + 1).to_le_bytes())
}

fn make() -> Arc<dyn Device> {
    let kernels: [Kernel; 4] =
        [Arc::new(add_f32), Arc::new(copy_bytes), Arc::new(scale_by_constant), Arc::new(count_ids)];
    let names = conformance::ENTRIES.map(String::from);
    Arc::new(TemplateDevice::new(names.into_iter().zip(kernels)))
}

fn kernels() -> Kernels {
    Kernels { triple: "template".into(), features: vec![], image: vec![] }
}

#[test]
fn obeys_the_interface() {
    conformance::run(&make, &kernels());
}

#[test]
fn obeys_the_interface_under_validation() {
    conformance::run(&|| Arc::new(Validated::new(make())), &kernels());
}
