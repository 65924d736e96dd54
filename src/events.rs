//! What the broker passes on an event, as Rust values.
//!
//! The event's number is checked before its data is looked at; null where something is required makes no event.
//! Fields are read where all releases have them; `future` fields never.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::time::Duration;

use crate::abi;
use crate::border::{Status, bytes};
use crate::host::{Client, malloc};

/// An access to be decided.
pub(crate) struct AclCheck<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) topic: &'a [u8],
    pub(crate) access: c_int,
    /// The message, where there is one, and how it is published.
    pub(crate) payload: &'a [u8],
    /// The quality of service that it was published with.
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// A login to be decided.
pub(crate) struct Login<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) username: Option<&'a [u8]>,
    pub(crate) password: Option<&'a [u8]>,
}

/// A step of an enhanced authentication.
pub(crate) struct ExtAuthStep<'a> {
    pub(crate) client: Client<'a>,
    /// The method's name; brokers before 2.0.5 don't pass it.
    pub(crate) method: Option<&'a [u8]>,
    pub(crate) data: &'a [u8],
}

/// A step of an enhanced authentication, with the place for its answer.
pub(crate) struct ExtAuth<'a> {
    step: ExtAuthStep<'a>,
    raw: *mut abi::midge_evt_extended_auth,
}

/// A message that a client or a bridge has published, and may.
pub(crate) struct Message<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// A message that is being sent to a client; 2.1 only.
pub(crate) struct MessageOut<'a> {
    message: Message<'a>,
    raw: *mut abi::midge_evt_message,
}

/// A message at a topic of the broker's control.
pub(crate) struct Control<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) payload: &'a [u8],
}

/// The broker's regular call.
pub(crate) struct Tick<'a> {
    raw: *mut abi::midge_evt_tick,
    callback: PhantomData<&'a ()>,
}

/// One call of the broker.
pub(crate) enum Event<'a> {
    Reload,
    Acl(AclCheck<'a>),
    BasicAuth(Login<'a>),
    ExtAuthStart(ExtAuth<'a>),
    ExtAuthContinue(ExtAuth<'a>),
    Control(Control<'a>),
    Message(Message<'a>),
    MessageOut(MessageOut<'a>),
    Tick(Tick<'a>),
    Disconnect(Client<'a>),
    Connect(Client<'a>),
    Offline(Client<'a>),
}

impl<'a> Event<'a> {
    /// Reads the data of event number `event`; `None` for an event that is not ours, or that lacks what it must have.
    ///
    /// # Safety
    /// `data` is null or points to the struct that belongs to the number, and what it points to lives for `'a`.
    pub(crate) unsafe fn from_c(event: c_int, data: *mut c_void) -> Option<Self> {
        if data.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for the struct behind `data`; each function below casts to the one of its number.
        unsafe {
            match u32::try_from(event).ok()? {
                abi::MIDGE_EVT_RELOAD => Some(Self::Reload),
                abi::MIDGE_EVT_ACL_CHECK => acl_check(data).map(Self::Acl),
                abi::MIDGE_EVT_BASIC_AUTH => login(data).map(Self::BasicAuth),
                abi::MIDGE_EVT_EXT_AUTH_START => ext_auth(data).map(Self::ExtAuthStart),
                abi::MIDGE_EVT_EXT_AUTH_CONTINUE => ext_auth(data).map(Self::ExtAuthContinue),
                abi::MIDGE_EVT_CONTROL => control(data).map(Self::Control),
                abi::MIDGE_EVT_MESSAGE => message(data).map(Self::Message),
                abi::MIDGE_EVT_MESSAGE_OUT => {
                    message(data).map(|message| Self::MessageOut(MessageOut { message, raw: data.cast() }))
                }
                abi::MIDGE_EVT_TICK => Some(Self::Tick(Tick { raw: data.cast(), callback: PhantomData })),
                abi::MIDGE_EVT_DISCONNECT | abi::MIDGE_EVT_CLIENT_OFFLINE => {
                    let client = Client::new((*data.cast::<abi::midge_evt_disconnect>()).client)?;
                    let gone = event == c_int::try_from(abi::MIDGE_EVT_DISCONNECT).unwrap_or(0);
                    Some(if gone { Self::Disconnect(client) } else { Self::Offline(client) })
                }
                abi::MIDGE_EVT_CONNECT => Client::new((*data.cast::<abi::midge_evt_connect>()).client).map(Self::Connect),
                _ => None,
            }
        }
    }
}

/// # Safety
/// `data` points to an ACL check that lives for `'a`.
unsafe fn acl_check<'a>(data: *mut c_void) -> Option<AclCheck<'a>> {
    // SAFETY: the caller vouches for the struct; its client, topic and payload are the broker's for the call.
    unsafe {
        let raw = &*data.cast::<abi::midge_evt_acl_check>();
        let payload = match raw.payload.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.payloadlen as usize),
        };
        Some(AclCheck {
            client: Client::new(raw.client)?,
            topic: bytes(raw.topic)?,
            access: raw.access,
            payload,
            qos: raw.qos,
            retain: raw.retain,
        })
    }
}

/// # Safety
/// `data` points to a message that lives for `'a`.
unsafe fn message<'a>(data: *mut c_void) -> Option<Message<'a>> {
    // SAFETY: the caller vouches for the struct; its client, topic and payload are the broker's for the call.
    unsafe {
        let raw = &*data.cast::<abi::midge_evt_message>();
        let payload = match raw.payload.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.payloadlen as usize),
        };
        Some(Message { client: Client::new(raw.client)?, topic: bytes(raw.topic)?, payload, qos: raw.qos, retain: raw.retain })
    }
}

/// # Safety
/// `data` points to a control message that lives for `'a`.
unsafe fn control<'a>(data: *mut c_void) -> Option<Control<'a>> {
    // SAFETY: the caller vouches for the struct; its client and payload are the broker's for the call.
    unsafe {
        let raw = &*data.cast::<abi::midge_evt_control>();
        let payload = match raw.payload.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.payloadlen as usize),
        };
        Some(Control { client: Client::new(raw.client)?, payload })
    }
}

/// # Safety
/// `data` points to a login that lives for `'a`.
unsafe fn login<'a>(data: *mut c_void) -> Option<Login<'a>> {
    // SAFETY: the caller vouches for the struct; its client and texts are the broker's for the call.
    unsafe {
        let raw = &*data.cast::<abi::midge_evt_basic_auth>();
        Some(Login { client: Client::new(raw.client)?, username: bytes(raw.username), password: bytes(raw.password) })
    }
}

/// # Safety
/// `data` points to an exchange that lives for `'a`.
unsafe fn ext_auth<'a>(data: *mut c_void) -> Option<ExtAuth<'a>> {
    let raw = data.cast::<abi::midge_evt_extended_auth>();
    // SAFETY: the caller vouches for the struct; the broker passes `data_in_len` readable bytes, or null.
    unsafe {
        let data_in = match (*raw).data_in.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts((*raw).data_in.cast::<u8>(), usize::from((*raw).data_in_len)),
        };
        let step = ExtAuthStep { client: Client::new((*raw).client)?, method: bytes((*raw).auth_method), data: data_in };
        Some(ExtAuth { step, raw })
    }
}

impl ExtAuth<'_> {
    /// Has `body` decide, and leaves its data where the broker sends and frees it.
    pub(crate) fn answer(&mut self, body: impl FnOnce(&ExtAuthStep<'_>) -> (Status, Vec<u8>)) -> Status {
        let (status, data) = body(&self.step);
        let Ok(length) = u16::try_from(data.len()) else { return Status::AUTH };
        if !data.is_empty() {
            let block = malloc(&data);
            if block.is_null() {
                return Status::AUTH;
            }
            // SAFETY: the event's struct is the broker's for the call, and these two fields are for us to write;
            // the broker frees the block with `free`.
            unsafe {
                (*self.raw).data_out = block;
                (*self.raw).data_out_len = length;
            }
        }
        status
    }
}

impl<'a> MessageOut<'a> {
    /// Returns what is being sent.
    pub(crate) fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// Has the message sent as one that was retained.
    pub(crate) fn send_as_retained(&mut self) {
        // SAFETY: the event's struct is the broker's for the call, and this field is for us to write.
        unsafe { (*self.raw).retain = true };
    }
}

impl Tick<'_> {
    /// Asks for the next call within `wait`. Only 2.1 has the fields for it.
    pub(crate) fn ask_again_in(&mut self, wait: Duration) {
        // SAFETY: the event's struct is the broker's for the call; the caller has made sure that this is 2.1.
        unsafe {
            (*self.raw).next_s = 0;
            (*self.raw).next_ms = i64::try_from(wait.as_millis()).unwrap_or(100);
        }
    }
}
