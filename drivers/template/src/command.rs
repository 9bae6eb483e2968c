//! Command buffers: the recording itself, interpreted.

use std::any::Any;

use ired_hal::{
    Binding, BindingSource, BufferRange, Command, CommandBuffer, Dispatch, HostAccessError, Pattern,
    Recording, SlotUse,
};

use crate::executable::{TemplateExecutable, Workgroup};
use crate::{TemplateBuffer, View};

#[derive(Debug)]
pub(crate) struct TemplateCommandBuffer(pub(crate) Recording);

impl CommandBuffer for TemplateCommandBuffer {
    fn slots(&self) -> &[SlotUse] {
        self.0.slots()
    }
}

impl TemplateCommandBuffer {
    pub(crate) fn of(commands: &dyn CommandBuffer) -> &Self {
        (commands as &dyn Any).downcast_ref().expect("validation admits only this driver's command buffers")
    }

    /// Runs every command in turn, which satisfies every barrier.
    pub(crate) fn run(&self, table: &[BufferRange]) -> Result<(), HostAccessError> {
        for command in self.0.commands() {
            match command {
                Command::Dispatch(dispatch) => run_dispatch(dispatch, table)?,
                Command::Copy { src, dst } => copy(view(src, table), view(dst, table))?,
                Command::Fill { dst, pattern } => fill(view(dst, table), *pattern)?,
                Command::Barrier => {}
            }
        }
        Ok(())
    }
}

fn run_dispatch(dispatch: &Dispatch, table: &[BufferRange]) -> Result<(), HostAccessError> {
    let kernel = &TemplateExecutable::of(&*dispatch.executable).kernels[dispatch.entry as usize];
    let bindings: Vec<View<'_>> = dispatch.bindings.iter().map(|b| view(b, table)).collect();
    let [x, y, z] = dispatch.grid;
    if dispatch.grid.contains(&0) {
        // The loops below would count through the other dimensions.
        return Ok(());
    }
    for z in 0..z {
        for y in 0..y {
            for x in 0..x {
                let constants = &dispatch.constants;
                kernel(Workgroup { bindings: &bindings, constants, id: [x, y, z] })?;
            }
        }
    }
    Ok(())
}

fn view<'a>(binding: &'a Binding, table: &'a [BufferRange]) -> View<'a> {
    let (buffer, start) = match &binding.source {
        BindingSource::Buffer(buffer) => (buffer, 0),
        BindingSource::Slot(slot) => {
            let range = &table[*slot as usize];
            (&range.buffer, range.offset_bytes)
        }
    };
    View {
        buffer: TemplateBuffer::of(&**buffer),
        offset_bytes: start + binding.offset_bytes,
        len_bytes: binding.len_bytes,
    }
}

pub(crate) fn copy(src: View<'_>, dst: View<'_>) -> Result<(), HostAccessError> {
    use ired_hal::Buffer;
    let mut bytes = vec![0; src.len_bytes as usize];
    src.buffer.read(src.offset_bytes, &mut bytes)?;
    dst.buffer.write(dst.offset_bytes, &bytes)
}

pub(crate) fn fill(dst: View<'_>, pattern: Pattern) -> Result<(), HostAccessError> {
    use ired_hal::Buffer;
    let bytes: Vec<u8> = pattern.bytes().iter().copied().cycle().take(dst.len_bytes as usize).collect();
    dst.buffer.write(dst.offset_bytes, &bytes)
}
