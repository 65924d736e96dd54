//! The functions that Mosquitto 1.5 and 1.6 call.
//!
//! These are versions 3 and 4 of the interface. They lead to the same [`Plugin`]; there are no events, so nothing is pushed and nobody is disconnected.
//! Mosquitto 2.x never calls these, since it finds `mosquitto_plugin_version` first.

use std::ffi::{c_char, c_int, c_void};

use crate::abi::{midge_acl_msg, midge_client, midge_opt};
use crate::border::{ExtAuthStep, Site, Status, bytes, guard, options_from_c};
use crate::events::{AclCheck, Login};
use crate::host::{BrokerThread, Client, host, malloc};
use crate::logger;
use crate::plugin::Plugin;

/// Says which version of the interface we speak: 4 to Mosquitto 1.6, 3 to 1.5.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mosquitto_auth_plugin_version() -> c_int {
    host().legacy_version()
}

/// Loads the plugin.
///
/// # Safety
/// The broker passes a place for our data and `count` options.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_plugin_init(
    user_data: *mut *mut c_void,
    options: *mut midge_opt,
    count: c_int,
) -> c_int {
    guard(Site::Init, || {
        if user_data.is_null() {
            return Status::UNKNOWN;
        }
        let thread = BrokerThread::claim();
        // SAFETY: the broker passes `count` options, or null.
        let given = unsafe { options_from_c(options, count) };
        let Some(plugin) = Plugin::start(&thread, given) else { return Status::UNKNOWN };
        logger::flush(&thread);
        // SAFETY: checked above for null; the broker passes a place to write to.
        unsafe { *user_data = Box::into_raw(Box::new(plugin)).cast() };
        Status::SUCCESS
    })
}

/// Unloads the plugin; our threads have ended when this returns.
///
/// # Safety
/// The broker passes what init left in its place.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_plugin_cleanup(
    user_data: *mut c_void,
    _options: *mut midge_opt,
    _count: c_int,
) -> c_int {
    guard(Site::Cleanup, || {
        if !user_data.is_null() {
            // SAFETY: init made this box and gave it to the broker, which gives it back once.
            let plugin = unsafe { Box::from_raw(user_data.cast::<Plugin>()) };
            if let Some(thread) = BrokerThread::current() {
                plugin.stop(&thread);
                logger::flush(&thread);
            }
        }
        Status::SUCCESS
    })
}

/// Called after load, and again on a reload with the options of the start.
///
/// # Safety
/// The broker passes what init left in its place.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_security_init(
    user_data: *mut c_void,
    _options: *mut midge_opt,
    _count: c_int,
    reload: bool,
) -> c_int {
    guard(Site::Reload, || {
        // SAFETY: the caller passes the broker's pointer to our data.
        match (unsafe { plugin(user_data) }, BrokerThread::current()) {
            (Some(plugin), Some(thread)) if reload => plugin.reload(&thread),
            _ => Status::SUCCESS,
        }
    })
}

/// Called before a reload and at the end; we keep everything until the plugin's own cleanup.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mosquitto_auth_security_cleanup(
    _user_data: *mut c_void,
    _options: *mut midge_opt,
    _count: c_int,
    _reload: bool,
) -> c_int {
    Status::SUCCESS.code()
}

/// Returns the bytes of a message.
///
/// # Safety
/// The payload is null or has as many readable bytes as the message says, which live as long as it does.
unsafe fn payload(message: &midge_acl_msg) -> &[u8] {
    match usize::try_from(message.payloadlen) {
        // SAFETY: the caller vouches for the bytes.
        Ok(length) if !message.payload.is_null() => unsafe { std::slice::from_raw_parts(message.payload.cast::<u8>(), length) },
        _ => &[],
    }
}

/// Decides an access.
///
/// # Safety
/// The broker passes our data, a client and a message that live during the call.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_acl_check(
    user_data: *mut c_void,
    access: c_int,
    client: *mut midge_client,
    message: *const midge_acl_msg,
) -> c_int {
    guard(Site::AclCheck, || {
        if message.is_null() {
            return Status::ACL_DENIED;
        }
        // SAFETY: the broker passes its client, our data and a message, all valid during the call.
        let (plugin, client, topic) = unsafe { (plugin(user_data), Client::new(client), bytes((*message).topic)) };
        match (plugin, client, topic, BrokerThread::current()) {
            (Some(plugin), Some(client), Some(topic), Some(thread)) => {
                // SAFETY: as above; the message has as many readable bytes as it says, or none.
                let payload = unsafe { payload(&*message) };
                let status = plugin.acl(&thread, &AclCheck { client, topic, access, payload, qos: 0, retain: false });
                // There is no tick before 2.0.
                plugin.catch_up(&thread);
                status
            }
            _ => Status::ACL_DENIED,
        }
    })
}

/// Decides a login.
///
/// # Safety
/// The broker passes our data, a client and texts that live during the call.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_unpwd_check(
    user_data: *mut c_void,
    client: *mut midge_client,
    username: *const c_char,
    password: *const c_char,
) -> c_int {
    guard(Site::BasicAuth, || {
        // SAFETY: the broker passes its client, our data and C strings or null, all valid during the call.
        let (plugin, client, username, password) =
            unsafe { (plugin(user_data), Client::new(client), bytes(username), bytes(password)) };
        match (plugin, client, BrokerThread::current()) {
            (Some(plugin), Some(client), Some(thread)) => {
                let status = plugin.basic_auth(&thread, &Login { client, username, password });
                plugin.catch_up(&thread);
                logger::flush(&thread);
                status
            }
            _ => Status::AUTH,
        }
    })
}

/// Keys of TLS-PSK are not ours to know.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mosquitto_auth_psk_key_get(
    _user_data: *mut c_void,
    _client: *mut midge_client,
    _hint: *const c_char,
    _identity: *const c_char,
    _key: *mut c_char,
    _max_key_len: c_int,
) -> c_int {
    Status::DEFER.code()
}

/// Begins an enhanced authentication; Mosquitto 1.6.
///
/// # Safety
/// The broker passes our data, a client, a method, `data_in_len` bytes and two places for the answer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_start(
    user_data: *mut c_void,
    client: *mut midge_client,
    method: *const c_char,
    _reauth: bool,
    data_in: *const c_void,
    data_in_len: u16,
    data_out: *mut *mut c_void,
    data_out_len: *mut u16,
) -> c_int {
    guard(Site::ExtAuthStart, || {
        // SAFETY: passed on as the broker vouches for them.
        unsafe { exchange(user_data, client, bytes(method), data_in, data_in_len, data_out, data_out_len, Plugin::ext_auth_start) }
    })
}

/// Goes on with an enhanced authentication; Mosquitto 1.6.
///
/// # Safety
/// The broker passes our data, a client, a method, `data_in_len` bytes and two places for the answer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_auth_continue(
    user_data: *mut c_void,
    client: *mut midge_client,
    method: *const c_char,
    data_in: *const c_void,
    data_in_len: u16,
    data_out: *mut *mut c_void,
    data_out_len: *mut u16,
) -> c_int {
    guard(Site::ExtAuthContinue, || {
        // SAFETY: passed on as the broker vouches for them.
        unsafe {
            exchange(user_data, client, bytes(method), data_in, data_in_len, data_out, data_out_len, Plugin::ext_auth_continue)
        }
    })
}

type Step = fn(&Plugin, &BrokerThread, &ExtAuthStep<'_>) -> (Status, Vec<u8>);

/// # Safety
/// As for the two functions above.
#[expect(clippy::too_many_arguments, reason = "the interface's own arguments")]
unsafe fn exchange(
    user_data: *mut c_void,
    client: *mut midge_client,
    method: Option<&[u8]>,
    data_in: *const c_void,
    data_in_len: u16,
    data_out: *mut *mut c_void,
    data_out_len: *mut u16,
    step: Step,
) -> Status {
    // SAFETY: the broker passes its client, our data and `data_in_len` readable bytes or null, all valid during the call.
    let (plugin, client, data) = unsafe {
        let data = match data_in.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(data_in.cast::<u8>(), usize::from(data_in_len)),
        };
        (plugin(user_data), Client::new(client), data)
    };
    let (Some(plugin), Some(client), Some(thread)) = (plugin, client, BrokerThread::current()) else { return Status::AUTH };
    if data_out.is_null() || data_out_len.is_null() {
        return Status::AUTH;
    }
    let (status, answer) = step(plugin, &thread, &ExtAuthStep { client, method, data });
    if let (Ok(length), false) = (u16::try_from(answer.len()), answer.is_empty()) {
        let block = malloc(&answer);
        if block.is_null() {
            return Status::AUTH;
        }
        // SAFETY: checked above for null; the broker sends and frees what is left there.
        unsafe {
            *data_out = block;
            *data_out_len = length;
        }
    }
    status
}

/// # Safety
/// `user_data` is null or what init left with the broker.
unsafe fn plugin<'a>(user_data: *mut c_void) -> Option<&'a Plugin> {
    // SAFETY: init boxed a `Plugin`, which lives until cleanup; nobody has it mutably.
    unsafe { user_data.cast::<Plugin>().as_ref() }
}
