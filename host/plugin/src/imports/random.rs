//! `random`: the operating system's generator.

use ring::rand::{SecureRandom, SystemRandom};
use wasmtime::{StoreContextMut, bail, component::Linker};

use crate::{contract::RANDOM, instance::InstanceState};

/// Bytes a call, as the contract states.
const MOST: u32 = 4096;

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(RANDOM)?;
    instance.func_wrap("bytes", |_: StoreContextMut<'_, InstanceState>, (len,): (u32,)| Ok((bytes(len)?,)))?;
    instance.func_wrap("next", |_: StoreContextMut<'_, InstanceState>, (): ()| {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        Ok((u64::from_ne_bytes(bytes),))
    })
}

fn bytes(len: u32) -> wasmtime::Result<Vec<u8>> {
    if len > MOST {
        bail!("it asked for {len} random bytes in one call; {MOST} are allowed");
    }
    let mut bytes = vec![0; len as usize];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn fill(bytes: &mut [u8]) -> wasmtime::Result<()> {
    if SystemRandom::new().fill(bytes).is_err() {
        bail!("the operating system gave no random bytes");
    }
    Ok(())
}
