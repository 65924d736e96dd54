//! Calls into the broker that has loaded us.
//!
//! Every function is found by name at load time, none is linked: one file serves all versions, and what a version lacks is `None`.
//! Broker functions need a [`BrokerThread`], which only a callback on that thread can have.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{self, midge_client, midge_plugin_id};

/// What the loading broker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// 1.5 and 1.6: authentication and authorisation only.
    Auth,
    /// 2.0: events, publishing, kicking.
    Events,
    /// 2.1: real subscriptions and delayed authentication as well.
    Delayed,
}

type LogPrintf = unsafe extern "C" fn(c_int, *const c_char, ...);
type ClientText = unsafe extern "C" fn(*const midge_client) -> *const c_char;
type ClientFlag = unsafe extern "C" fn(*const midge_client) -> bool;
type ClientNumber = unsafe extern "C" fn(*const midge_client) -> c_int;
type ClientCertificate = unsafe extern "C" fn(*const midge_client) -> *mut c_void;
type SetUsername = unsafe extern "C" fn(*mut midge_client, *const c_char) -> c_int;
type CallbackRegister = unsafe extern "C" fn(*mut midge_plugin_id, c_int, abi::midge_callback, *const c_void, *mut c_void) -> c_int;
type CallbackUnregister = unsafe extern "C" fn(*mut midge_plugin_id, c_int, abi::midge_callback, *const c_void) -> c_int;
type Kick = unsafe extern "C" fn(*const c_char, bool) -> c_int;
type CompleteBasicAuth = unsafe extern "C" fn(*const c_char, c_int);
type FindClient = unsafe extern "C" fn(*const c_char) -> *mut midge_client;
type SubscriptionAdd = unsafe extern "C" fn(*const abi::midge_subscription) -> c_int;
type SubscriptionDelete = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type SetInfo = unsafe extern "C" fn(*mut midge_plugin_id, *const c_char, *const c_char) -> c_int;
type BrokerPublish =
    unsafe extern "C" fn(*const c_char, *const c_char, c_int, *mut c_void, c_int, bool, *mut abi::midge_property) -> c_int;
type BrokerMalloc = unsafe extern "C" fn(usize) -> *mut c_void;
type BrokerFree = unsafe extern "C" fn(*mut c_void);
type AddInt32 = unsafe extern "C" fn(*mut *mut abi::midge_property, c_int, u32) -> c_int;
type FreeProperties = unsafe extern "C" fn(*mut *mut abi::midge_property);
type EncodeX509 = unsafe extern "C" fn(*mut c_void, *mut *mut u8) -> c_int;
type FreeX509 = unsafe extern "C" fn(*mut c_void);

/// The broker's functions, as far as it has them.
pub(crate) struct Host {
    log_printf: Option<LogPrintf>,
    client_id: Option<ClientText>,
    client_username: Option<ClientText>,
    client_address: Option<ClientText>,
    client_clean_session: Option<ClientFlag>,
    client_protocol_version: Option<ClientNumber>,
    client_certificate: Option<ClientCertificate>,
    set_username: Option<SetUsername>,
    callback_register: Option<CallbackRegister>,
    callback_unregister: Option<CallbackUnregister>,
    kick_client_by_clientid: Option<Kick>,
    complete_basic_auth: Option<CompleteBasicAuth>,
    client: Option<FindClient>,
    client_sub_count: Option<ClientNumber>,
    client_port: Option<ClientNumber>,
    subscription_add: Option<SubscriptionAdd>,
    subscription_delete: Option<SubscriptionDelete>,
    plugin_set_info: Option<SetInfo>,
    broker_publish: Option<BrokerPublish>,
    malloc: Option<BrokerMalloc>,
    free: Option<BrokerFree>,
    property_add_int32: Option<AddInt32>,
    property_free_all: Option<FreeProperties>,
    i2d_x509: Option<EncodeX509>,
    x509_free: Option<FreeX509>,
}

/// A message to be published.
pub(crate) struct Publication<'a> {
    /// The one client it is for; `None` for all who are subscribed.
    pub(crate) client: Option<&'a str>,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// The message expiry interval in seconds.
    pub(crate) expiry: Option<u32>,
}

/// What became of a subscription that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It was made; for a client of MQTT 3.1.1 it may have been there.
    Made,
    /// It was there, and has the new options.
    Existed,
    /// The broker refused.
    Failed,
}

/// The identifier of the property (MQTT 5.0, table 2-4).
const MESSAGE_EXPIRY_INTERVAL: c_int = 2;

/// Returns what belongs to an event beside its number: of control messages their topic.
fn detail(event: c_int) -> *const c_void {
    const TOPIC: &CStr = c"$CONTROL/midge/v1";
    if u32::try_from(event) == Ok(abi::MIDGE_EVT_CONTROL) { TOPIC.as_ptr().cast() } else { ptr::null() }
}

fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string; RTLD_DEFAULT searches the running program, whatever flags we were loaded with.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

macro_rules! function {
    ($name:literal, $type:ty) => {{
        let address = symbol($name);
        // SAFETY: the broker's functions of this name have had this signature in every release from 1.5 to 2.1;
        // a null address becomes `None`, since `Option` of a function pointer has the layout of a pointer.
        unsafe { std::mem::transmute::<*mut c_void, Option<$type>>(address) }
    }};
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Returns the broker's functions, found on the first call.
pub(crate) fn host() -> &'static Host {
    HOST.get_or_init(|| Host {
        log_printf: function!(c"mosquitto_log_printf", LogPrintf),
        client_id: function!(c"mosquitto_client_id", ClientText),
        client_username: function!(c"mosquitto_client_username", ClientText),
        client_address: function!(c"mosquitto_client_address", ClientText),
        client_clean_session: function!(c"mosquitto_client_clean_session", ClientFlag),
        client_protocol_version: function!(c"mosquitto_client_protocol_version", ClientNumber),
        client_certificate: function!(c"mosquitto_client_certificate", ClientCertificate),
        set_username: function!(c"mosquitto_set_username", SetUsername),
        callback_register: function!(c"mosquitto_callback_register", CallbackRegister),
        callback_unregister: function!(c"mosquitto_callback_unregister", CallbackUnregister),
        kick_client_by_clientid: function!(c"mosquitto_kick_client_by_clientid", Kick),
        complete_basic_auth: function!(c"mosquitto_complete_basic_auth", CompleteBasicAuth),
        client: function!(c"mosquitto_client", FindClient),
        client_sub_count: function!(c"mosquitto_client_sub_count", ClientNumber),
        client_port: function!(c"mosquitto_client_port", ClientNumber),
        subscription_add: function!(c"mosquitto_subscription_add", SubscriptionAdd),
        subscription_delete: function!(c"mosquitto_subscription_delete", SubscriptionDelete),
        plugin_set_info: function!(c"mosquitto_plugin_set_info", SetInfo),
        broker_publish: function!(c"mosquitto_broker_publish", BrokerPublish),
        malloc: function!(c"mosquitto_malloc", BrokerMalloc),
        free: function!(c"mosquitto_free", BrokerFree),
        property_add_int32: function!(c"mosquitto_property_add_int32", AddInt32),
        property_free_all: function!(c"mosquitto_property_free_all", FreeProperties),
        i2d_x509: function!(c"i2d_X509", EncodeX509),
        x509_free: function!(c"X509_free", FreeX509),
    })
}

thread_local! {
    static ON_BROKER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The thread that the broker loaded us on, for signals to it.
static BROKER_THREAD: AtomicU64 = AtomicU64::new(0);

/// Proof that the code runs on the broker's thread. It can't leave it.
pub(crate) struct BrokerThread(PhantomData<*const ()>);

impl BrokerThread {
    /// Makes the current thread the broker's: the one that loads and initialises plugins.
    pub(crate) fn claim() -> Self {
        ON_BROKER_THREAD.set(true);
        // SAFETY: pthread_self has no precondition.
        BROKER_THREAD.store(unsafe { libc::pthread_self() }, Ordering::Release);
        Self(PhantomData)
    }

    /// Returns the proof, unless this is another thread, such as that of 2.1's HTTP listener.
    pub(crate) fn current() -> Option<Self> {
        ON_BROKER_THREAD.get().then_some(Self(PhantomData))
    }
}

/// Interrupts the broker's wait for network events, so that it comes round to its tick.
pub(crate) fn wake_broker() {
    let thread = BROKER_THREAD.load(Ordering::Acquire);
    if thread != 0 {
        // SAFETY: the broker's thread outlives the plugin, whose cleanup runs on it and joins every caller of this.
        // The signal has a handler, see `prepare_wake`.
        unsafe { libc::pthread_kill(thread, libc::SIGURG) };
    }
}

/// Makes the calling thread one of ours: the broker's signals and file descriptors are none of its business.
pub(crate) fn begin_thread() {
    leave_signals();
    leave_descriptors();
}

/// Has signals go to the broker's threads alone.
///
/// The kernel gives a signal for the process to any thread that takes it: here it would interrupt a question to the store, and
/// not the broker's wait, which is what a reload and an end are noticed by.
pub(crate) fn leave_signals() {
    // SAFETY: the set is plain data for which zero is valid, and is filled before it is read; only this thread's mask changes.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

/// Gives the calling thread a table of file descriptors of its own, with the standard streams alone.
///
/// While threads share the broker's table, the kernel counts references in each of the broker's system calls on a socket:
/// 4 % of Mosquitto's CPU at a fan-out of 500, see `docs/BENCHMARKS.md`. The threads open all they use by themselves.
/// Kernels before Linux 5.9, and sandboxes that don't know the call, leave the table shared.
fn leave_descriptors() {
    // SAFETY: the table is copied before anything is closed, so that only this thread's copy is; nothing is open in it that
    // code on this thread owns, since it has just begun.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_UNSHARE);
    }
}

/// Installs an empty handler, so that the signal ends a wait and does nothing else.
pub(crate) fn prepare_wake(_: &BrokerThread) {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: the struct is plain data for which zero is valid; the handler does nothing, so it is safe at any instruction.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
        // The wait for network events is interrupted all the same; reads and writes of files by the broker are not.
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut());
    }
}

/// Gives the signal its default, which is to be ignored: our handler's code may be unmapped next.
pub(crate) fn forget_wake(_: &BrokerThread) {
    BROKER_THREAD.store(0, Ordering::Release);
    // SAFETY: as in `prepare_wake`; SIG_DFL ignores SIGURG.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut());
    }
}

/// A value that only the broker's thread touches.
///
/// A borrow must not last over a call of a broker function: those may call us back.
#[derive(Default)]
pub(crate) struct BrokerCell<T>(RefCell<T>);

// SAFETY: the content is reachable only with a `BrokerThread`, and all of those live on one thread.
// `T: Send` because the cell may be created and dropped elsewhere.
unsafe impl<T: Send> Sync for BrokerCell<T> {}

impl<T> BrokerCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Runs `body` on the content; `None` where a caller up the stack is inside it already.
    pub(crate) fn with<R>(&self, _: &BrokerThread, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_borrow_mut().ok().map(|mut content| body(&mut content))
    }
}

/// Whether a connection begins a session or resumes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionStart {
    /// Nothing of an earlier session is left.
    Clean,
    /// An earlier session goes on, if there is one.
    Resumed,
}

/// A client of the broker, valid during the callback that named it.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pointer: ptr::NonNull<midge_client>,
    callback: PhantomData<&'a midge_client>,
}

impl<'a> Client<'a> {
    /// Wraps what a callback was given.
    ///
    /// # Safety
    /// `pointer` is null or points to a client that the broker keeps alive for `'a`.
    pub(crate) unsafe fn new(pointer: *mut midge_client) -> Option<Self> {
        ptr::NonNull::new(pointer).map(|pointer| Self { pointer, callback: PhantomData })
    }

    /// Returns the address by which the broker knows the client; it may be given to another client later.
    pub(crate) fn handle(self) -> usize {
        self.pointer.as_ptr() as usize
    }

    /// Returns the client identifier's bytes.
    pub(crate) fn id(self) -> Option<&'a [u8]> {
        self.text(host().client_id)
    }

    /// Returns the username's bytes.
    pub(crate) fn username(self) -> Option<&'a [u8]> {
        self.text(host().client_username)
    }

    /// Returns the text of the client's address, without a port.
    pub(crate) fn address(self) -> Option<&'a [u8]> {
        self.text(host().client_address)
    }

    /// Returns what the client asked for at its connection.
    pub(crate) fn session_start(self) -> SessionStart {
        let Some(clean_session) = host().client_clean_session else { return SessionStart::Resumed };
        // SAFETY: the pointer is a live client, see `new`; the function only reads.
        if unsafe { clean_session(self.pointer.as_ptr()) } { SessionStart::Clean } else { SessionStart::Resumed }
    }

    /// Returns whether the broker knows of no subscription of the client's session; `false` where it can't tell.
    pub(crate) fn has_no_subscription(self) -> bool {
        // SAFETY: the pointer is a live client, see `new`; the function only reads.
        host().client_sub_count.is_some_and(|count| unsafe { count(self.pointer.as_ptr()) } == 0)
    }

    /// Returns whether the session certainly ends with the connection.
    pub(crate) fn is_transient(self) -> bool {
        let Some(clean_session) = host().client_clean_session else { return false };
        // SAFETY: the pointer is a live client, see `new`; the function only reads.
        let (clean, version) = unsafe {
            (
                clean_session(self.pointer.as_ptr()),
                host().client_protocol_version.map_or(4, |version| version(self.pointer.as_ptr())),
            )
        };
        clean && version < 5
    }

    /// Returns the certificate that the client showed, in DER.
    pub(crate) fn certificate(self, _: &BrokerThread) -> Option<Vec<u8>> {
        let (certificate, encode, free) = (host().client_certificate?, host().i2d_x509?, host().x509_free?);
        // SAFETY: the pointer is a live client, see `new`. The broker hands out a certificate of its own OpenSSL,
        // whose functions these are, with a reference of ours that is given back.
        // `encode` with null only tells the length; the second call writes exactly that much.
        unsafe {
            let x509 = ptr::NonNull::new(certificate(self.pointer.as_ptr()))?.as_ptr();
            let length = encode(x509, ptr::null_mut());
            let mut der = vec![0_u8; usize::try_from(length).unwrap_or(0)];
            let mut end = der.as_mut_ptr();
            let written = if der.is_empty() { 0 } else { encode(x509, &raw mut end) };
            free(x509);
            (written == length && written > 0).then_some(der)
        }
    }

    /// Gives the client the username that its certificate or its authentication proved; returns whether the broker took it.
    pub(crate) fn set_username(self, _: &BrokerThread, name: &str) -> bool {
        let (Some(set_username), Ok(name)) = (host().set_username, CString::new(name)) else { return false };
        // SAFETY: the pointer is a live client, see `new`; the broker copies the name.
        unsafe { set_username(self.pointer.as_ptr(), name.as_ptr()) == abi::MIDGE_ERR_SUCCESS }
    }

    fn text(self, function: Option<ClientText>) -> Option<&'a [u8]> {
        // SAFETY: the pointer is a live client, see `new`; the broker returns null or a C string that lives as long as the callback.
        unsafe {
            let text = function?(self.pointer.as_ptr());
            (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
        }
    }
}

impl Host {
    /// Returns what this broker can do.
    pub(crate) fn level(&self) -> Level {
        match (self.callback_register, self.subscription_delete, self.complete_basic_auth) {
            (Some(_), Some(_), Some(_)) => Level::Delayed,
            (Some(_), _, _) => Level::Events,
            (None, _, _) => Level::Auth,
        }
    }

    /// Returns which version of the old interface to speak: 4 from 1.6, 3 before.
    pub(crate) fn legacy_version(&self) -> c_int {
        if self.set_username.is_some() { 4 } else { 3 }
    }

    /// Writes a line to the broker's log. On other threads than the broker's use [`crate::logger`].
    pub(crate) fn log(&self, _: &BrokerThread, level: c_int, line: &str) {
        let Some(log_printf) = self.log_printf else { return };
        let line = CString::new(line.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the format is constant and takes one C string, which lives until the call returns.
        unsafe { log_printf(level, c"%s".as_ptr(), line.as_ptr()) }
    }

    /// Has the broker call `callback` with `user_data` on `event`; returns the broker's code.
    ///
    /// # Safety
    /// `plugin` is the handle that the broker gave to `mosquitto_plugin_init`;
    /// `user_data` stays valid until the broker is told otherwise.
    pub(crate) unsafe fn register(
        &self,
        _: &BrokerThread,
        plugin: *mut midge_plugin_id,
        event: c_int,
        callback: abi::midge_callback,
        user_data: *mut c_void,
    ) -> c_int {
        let Some(register) = self.callback_register else { return abi::MIDGE_ERR_NOT_SUPPORTED };
        // SAFETY: the caller vouches for handle and data; the callback has the signature that the broker expects.
        unsafe { register(plugin, event, callback, detail(event), user_data) }
    }

    /// Ends what [`Self::register`] began.
    ///
    /// # Safety
    /// `plugin` is the handle that the broker gave to `mosquitto_plugin_init`.
    pub(crate) unsafe fn unregister(
        &self,
        _: &BrokerThread,
        plugin: *mut midge_plugin_id,
        event: c_int,
        callback: abi::midge_callback,
    ) {
        if let Some(unregister) = self.callback_unregister {
            // SAFETY: the caller vouches for the handle.
            unsafe { unregister(plugin, event, callback, detail(event)) };
        }
    }

    /// Tells 2.1 our name and version, which it shows to administrators.
    ///
    /// # Safety
    /// `plugin` is the handle that the broker gave to `mosquitto_plugin_init`.
    pub(crate) unsafe fn introduce(&self, _: &BrokerThread, plugin: *mut midge_plugin_id) {
        if let (Some(set_info), Ok(version)) = (self.plugin_set_info, CString::new(env!("CARGO_PKG_VERSION"))) {
            // SAFETY: the caller vouches for the handle; the broker copies both texts.
            unsafe { set_info(plugin, c"midge".as_ptr(), version.as_ptr()) };
        }
    }

    /// Publishes a message: to whoever is subscribed, or to one client whatever it is subscribed to; returns whether the broker took it.
    ///
    /// It is passed on after the current callback; nothing is called back before this returns.
    pub(crate) fn publish(&self, _: &BrokerThread, message: &Publication<'_>) -> bool {
        let (Some(publish), Some(malloc), Some(free)) = (self.broker_publish, self.malloc, self.free) else { return false };
        let (Ok(topic), Ok(client), Ok(length)) =
            (CString::new(message.topic), message.client.map(CString::new).transpose(), c_int::try_from(message.payload.len()))
        else {
            return false;
        };
        let client = client.as_ref().map_or(ptr::null(), |client| client.as_ptr());
        let mut properties = ptr::null_mut();
        // SAFETY: the block has room for the payload, and both belong to the broker's own allocator, to which they go back:
        // by the broker where it took the message, by us where it did not. The texts live until the calls return.
        unsafe {
            let block = if message.payload.is_empty() { ptr::null_mut() } else { malloc(message.payload.len()) };
            if !message.payload.is_empty() {
                if block.is_null() {
                    return false;
                }
                ptr::copy_nonoverlapping(message.payload.as_ptr(), block.cast(), message.payload.len());
            }
            if let (Some(seconds), Some(add)) = (message.expiry, self.property_add_int32) {
                add(&raw mut properties, MESSAGE_EXPIRY_INTERVAL, seconds);
            }
            let taken = publish(client, topic.as_ptr(), length, block, c_int::from(message.qos), message.retain, properties);
            if taken != abi::MIDGE_ERR_SUCCESS {
                free(block);
                if let (false, Some(free_all)) = (properties.is_null(), self.property_free_all) {
                    free_all(&raw mut properties);
                }
            }
            taken == abi::MIDGE_ERR_SUCCESS
        }
    }

    /// Disconnects the client of that identifier; the broker calls us back before this returns.
    pub(crate) fn kick(&self, _: &BrokerThread, id: &str) -> bool {
        let (Some(kick), Ok(id)) = (self.kick_client_by_clientid, CString::new(id)) else { return false };
        // SAFETY: a C string that lives until the call returns.
        unsafe { kick(id.as_ptr(), false) == abi::MIDGE_ERR_SUCCESS }
    }

    /// Answers a login that was delayed; the broker calls us back before this returns.
    pub(crate) fn complete_login(&self, _: &BrokerThread, id: &str, code: c_int) {
        if let (Some(complete), Ok(id)) = (self.complete_basic_auth, CString::new(id)) {
            // SAFETY: a C string that lives until the call returns.
            unsafe { complete(id.as_ptr(), code) }
        }
    }

    /// Returns the handle of the client that has this identifier now, where the broker can tell.
    pub(crate) fn find(&self, thread: &BrokerThread, id: &str) -> Option<usize> {
        self.client_of(thread, id).map(|client| client.as_ptr() as usize)
    }

    fn client_of(&self, _: &BrokerThread, id: &str) -> Option<ptr::NonNull<midge_client>> {
        let (find, id) = (self.client?, CString::new(id).ok()?);
        // SAFETY: a C string that lives until the call returns.
        ptr::NonNull::new(unsafe { find(id.as_ptr()) })
    }

    /// Returns whether the broker keeps a session of this identifier whose client is away, where it can tell.
    pub(crate) fn awaits(&self, thread: &BrokerThread, id: &str) -> bool {
        let (Some(client), Some(address)) = (self.client_of(thread, id), self.client_address) else { return false };
        // SAFETY: the broker has just named the client, and nothing has run since that could end it.
        unsafe { address(client.as_ptr()).is_null() }
    }

    /// Returns the port of the listener that the client of this identifier came through, where the broker can tell.
    pub(crate) fn port_of(&self, _: &BrokerThread, id: &str) -> Option<u16> {
        let (find, port, id) = (self.client?, self.client_port?, CString::new(id).ok()?);
        // SAFETY: a C string that lives until the call returns; the client that is found lives as long as this callback.
        let number = unsafe {
            let client = find(id.as_ptr());
            if client.is_null() { 0 } else { port(client) }
        };
        u16::try_from(number).ok().filter(|port| *port != 0)
    }

    /// Returns how many subscriptions the client of this identifier has, where the broker can tell.
    pub(crate) fn subscriptions_of(&self, _: &BrokerThread, id: &str) -> Option<c_int> {
        let (find, count, id) = (self.client?, self.client_sub_count?, CString::new(id).ok()?);
        // SAFETY: a C string that lives until the call returns; the client that is found lives as long as this callback.
        unsafe {
            let client = find(id.as_ptr());
            (!client.is_null()).then(|| count(client))
        }
    }

    /// Makes a subscription for a client, or gives the one it has other options; nothing is called back.
    ///
    /// `options` are the quality of service and the bits of MQTT 5.0 section 3.8.3.1 without those of retain handling.
    pub(crate) fn subscribe(&self, _: &BrokerThread, id: &str, filter: &str, options: u8) -> Subscribed {
        let (Some(add), Ok(id), Ok(filter)) = (self.subscription_add, CString::new(id), CString::new(filter)) else {
            return Subscribed::Failed;
        };
        // SAFETY: the struct is plain data for which zero is valid; the broker copies both C strings, which live until the call returns.
        let code = unsafe {
            let mut subscription: abi::midge_subscription = std::mem::zeroed();
            subscription.clientid = id.as_ptr().cast_mut();
            subscription.topic_filter = filter.as_ptr().cast_mut();
            subscription.options = options;
            add(&raw const subscription)
        };
        match code {
            abi::MIDGE_ERR_SUCCESS => Subscribed::Made,
            abi::MIDGE_ERR_SUB_EXISTS => Subscribed::Existed,
            _ => Subscribed::Failed,
        }
    }

    /// Takes a subscription from a client; returns whether the broker could.
    pub(crate) fn unsubscribe(&self, _: &BrokerThread, id: &str, filter: &str) -> bool {
        let (Some(delete), Ok(id), Ok(filter)) = (self.subscription_delete, CString::new(id), CString::new(filter)) else {
            return false;
        };
        // SAFETY: two C strings that live until the call returns.
        unsafe { delete(id.as_ptr(), filter.as_ptr()) == abi::MIDGE_ERR_SUCCESS }
    }
}

/// Copies `bytes` into memory that the broker may free; null where there is none.
pub(crate) fn malloc(bytes: &[u8]) -> *mut c_void {
    // SAFETY: the new block has room for all bytes, and at least one, and overlaps nothing.
    unsafe {
        let block = libc::malloc(bytes.len().max(1));
        if !block.is_null() {
            ptr::copy_nonoverlapping(bytes.as_ptr(), block.cast(), bytes.len());
        }
        block
    }
}
