/* A stand-in for Mosquitto that a plugin is loaded into.
 *
 * Compiled once per HOST (15, 16, 20, 21: Mosquitto 1.5, 1.6, 2.0, 2.1), so that functions which that release lacks are
 * really absent. Reads one command a line, answers each with a line "= RC key=value ...", and prints every call that
 * the plugin makes of the broker as "> name arguments" when it comes; "> offthread name" when another thread than the
 * broker's makes it. A token is "-" for NULL, "x" and hexadecimal digits for bytes, else itself.
 *
 * With COUNT defined, allocations inside callbacks and on other threads are counted.
 * The declarations are our own description of the interface; no header of Mosquitto is used.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVAL = 3, NOT_FOUND = 6, NOT_SUPPORTED = 10, DEFER = 17, EXISTS = 31, IGNORE = 32 };
enum { RELOAD = 1, ACL, BASIC_AUTH, EXT_START, EXT_CONTINUE, CONTROL, MESSAGE_IN, PSK, TICK, DISCONNECT,
       CONNECT, SUBSCRIBE, UNSUBSCRIBE, MESSAGE_OUT = 27, CLIENT_OFFLINE = 28, LAST_EVENT = 30 };

struct opt { char *key; char *value; };

struct mosquitto {
    char id[512], user[512], address[64];
    bool has_id, has_user, clean, connected, pending;
    int version, keepalive, port;
};

struct ev_reload { void *f; struct opt *options; int count; void *g[4]; };
struct ev_acl { void *f; struct mosquitto *client; const char *topic; const void *payload; void *props; int access;
                uint32_t len; uint8_t qos; bool retain; void *g[4]; };
struct ev_auth { void *f; struct mosquitto *client; char *user; char *password; void *g[4]; };
struct ev_psk { void *f; struct mosquitto *client; const char *hint; const char *identity; char *key; int max; void *g[4]; };
struct ev_ext { void *f; struct mosquitto *client; const void *in; void *out; uint16_t in_len, out_len;
                const char *method; void *g[3]; };
struct ev_control { void *f; struct mosquitto *client; const char *topic; const void *payload; const void *props;
                    char *reason; uint32_t len; uint8_t qos, code; bool retain; void *g[4]; };
struct ev_message { void *f; struct mosquitto *client; char *topic; void *payload; void *props; char *reason;
                    uint32_t len; uint8_t qos, code; bool retain; void *g[4]; };
#if HOST >= 21
struct ev_tick { void *f; long now_ns, next; time_t now_s, next_s; void *g[4]; };
#else
/* As 2.0.0 to 2.0.7 lay it out: whoever touches more is caught by Valgrind. */
struct ev_tick { void *f; long now_ns, next; int now_s, next_s; void *g[4]; };
#endif
struct ev_disconnect { void *f; struct mosquitto *client; int reason; void *g[4]; };
struct ev_connect { void *f; struct mosquitto *client; void *g[4]; };
struct subscription { char *id; char *filter; void *props; uint32_t identifier; uint8_t options; uint8_t pad[3]; void *g[8]; };
struct ev_subscribe { void *f; struct mosquitto *client; struct subscription data; void *g[8]; };
struct acl_msg { const char *topic; const void *payload; long len; int qos; bool retain; };

_Static_assert(sizeof(struct ev_reload) == 56 && sizeof(struct ev_acl) == 88 && sizeof(struct ev_auth) == 64, "layout");
_Static_assert(sizeof(struct ev_psk) == 80 && sizeof(struct ev_ext) == 72 && sizeof(struct ev_control) == 88, "layout");
_Static_assert(sizeof(struct ev_message) == 88 && sizeof(struct ev_disconnect) == 56, "layout");
_Static_assert(sizeof(struct ev_connect) == 48 && sizeof(struct ev_subscribe) == 176, "layout");
_Static_assert(sizeof(struct ev_tick) == (HOST >= 21 ? 72 : 64), "layout");

typedef int (*callback)(int, void *, void *);

#define MAX 8192
static struct mosquitto clients[MAX];
static struct { int event; callback cb; void *userdata, *owner; char topic[256]; } registered[256];
static int registered_count;
static struct { char mark; void *userdata; } instances[8];
static int instance_count, api;
static struct opt options[128];
static int option_count;
static void *library;
static pthread_t broker_thread;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;
static bool log_topic, benching, recheck;
static __thread int inside, log_depth;

static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&printing);
    int kept = inside;
    inside = 0; /* what printing allocates is not the plugin's */
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    inside = kept;
    pthread_mutex_unlock(&printing);
    va_end(args);
}

static const char *thread_mark(void) { return pthread_equal(pthread_self(), broker_thread) ? "" : "offthread "; }
#define CALLED(format, ...) say("> %s" format, thread_mark(), ##__VA_ARGS__)

/* ---- allocations ------------------------------------------------------------------------------------------------ */
#ifdef COUNT
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
static long in_callbacks, on_others;
static __thread int main_mark;
static void counted(void) {
    if (inside) __atomic_add_fetch(&in_callbacks, 1, __ATOMIC_RELAXED);
    else if (!main_mark) __atomic_add_fetch(&on_others, 1, __ATOMIC_RELAXED);
}
void *malloc(size_t size) { counted(); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { counted(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { counted(); return __libc_realloc(p, size); }
void *memalign(size_t a, size_t size) { counted(); return __libc_memalign(a, size); }
void *aligned_alloc(size_t a, size_t size) { counted(); return __libc_memalign(a, size); }
int posix_memalign(void **out, size_t a, size_t size) { counted(); *out = __libc_memalign(a, size); return *out ? 0 : 12; }
#endif

/* ---- what 1.5 has ----------------------------------------------------------------------------------------------- */
static int run(int event, void *data);
static int ask_acl(struct mosquitto *client, int access, const char *topic, const void *payload, uint32_t len, int qos, bool retain);

void mosquitto_log_printf(int level, const char *format, ...) {
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) if (*c == '\n' || *c == '\r') *c = ' ';
    CALLED("log %d %s", level, text);
    /* As with `log_dest topic` and a subscriber: the log line itself is delivered, which asks the plugin. */
    if (log_topic && level < 16) {
        if (++log_depth > 20) CALLED("recursion");
        else ask_acl(&clients[MAX - 1], 1, "$SYS/broker/log/N", "x", 1, 0, false);
        log_depth--;
    }
}

const char *mosquitto_client_address(const struct mosquitto *c) { return c && c->address[0] ? c->address : NULL; }
bool mosquitto_client_clean_session(const struct mosquitto *c) { return c ? c->clean : true; }
const char *mosquitto_client_id(const struct mosquitto *c) { return c && c->has_id ? c->id : NULL; }
int mosquitto_client_keepalive(const struct mosquitto *c) { return c ? c->keepalive : -1; }
void *mosquitto_client_certificate(const struct mosquitto *c) { (void)c; return NULL; }
int mosquitto_client_protocol(const struct mosquitto *c) { return c ? 1 : -1; }
int mosquitto_client_sub_count(const struct mosquitto *c) { return c ? 0 : -1; }
const char *mosquitto_client_username(const struct mosquitto *c) { return c && c->has_user ? c->user : NULL; }

/* ---- what 1.6 adds ---------------------------------------------------------------------------------------------- */
#if HOST >= 16
int mosquitto_set_username(struct mosquitto *c, const char *user) {
    CALLED("set_username %s", user ? user : "-");
    if (!c) return INVAL;
    c->has_user = user != NULL;
    snprintf(c->user, sizeof c->user, "%s", user ? user : "");
    return OK;
}
#endif

/* ---- what 2.0 adds ---------------------------------------------------------------------------------------------- */
#if HOST >= 20
static bool event_exists(int event) {
    if (event < 1 || event > LAST_EVENT) return false;
    return HOST >= 21 || event <= DISCONNECT;
}

int mosquitto_callback_register(void *owner, int event, callback cb, const void *data, void *userdata) {
    int rc = OK;
    if (!owner || !cb) rc = INVAL;
    else if (!event_exists(event)) rc = NOT_SUPPORTED;
    else if (event >= 14 && event <= 26) rc = INVAL;
    else if (event == CONTROL && (!data || strlen(data) < 13 || strncmp(data, "$CONTROL/", 9))) rc = INVAL;
    else if (registered_count == 256) rc = 1;
    for (int i = 0; rc == OK && i < registered_count; i++) {
        bool same = registered[i].event == event && registered[i].cb == cb;
        if (event == CONTROL) same = registered[i].event == CONTROL && !strcmp(registered[i].topic, data);
        if (same && (HOST < 21 || event == CONTROL)) rc = EXISTS;
    }
    if (rc == OK) {
        int at = registered_count++;
        registered[at].event = event;
        registered[at].cb = cb;
        registered[at].userdata = userdata;
        registered[at].owner = owner;
        snprintf(registered[at].topic, 256, "%s", event == CONTROL ? (const char *)data : "");
    }
    CALLED("register %d %d", event, rc);
    return rc;
}

int mosquitto_callback_unregister(void *owner, int event, callback cb, const void *data) {
    int rc = NOT_FOUND;
    for (int i = 0; i < registered_count; i++) {
        if (registered[i].owner != owner || registered[i].event != event || registered[i].cb != cb) continue;
        if (event == CONTROL && (!data || strcmp(registered[i].topic, data))) continue;
        memmove(&registered[i], &registered[i + 1], sizeof registered[0] * (size_t)(registered_count - i - 1));
        registered_count--;
        rc = OK;
        break;
    }
    CALLED("unregister %d %d", event, rc);
    return rc;
}

static void hex(char *out, size_t room, const void *bytes, size_t len) {
    size_t at = 0;
    out[at++] = 'x';
    for (size_t i = 0; i < len && at + 3 < room; i++) at += (size_t)sprintf(out + at, "%02x", ((const uint8_t *)bytes)[i]);
    out[at] = 0;
}

static int publish(const char *name, const char *id, const char *topic, int len, const void *payload, int qos, bool retain) {
    static __thread char text[65536];
    if (!topic || len < 0 || (len && !payload) || qos < 0 || qos > 2) { CALLED("%s invalid", name); return INVAL; }
    hex(text, sizeof text, payload, (size_t)len);
    CALLED("%s %s %s %s %d %d", name, id ? id : "-", topic, text, qos, retain);
    return OK;
}

int mosquitto_broker_publish(const char *id, const char *topic, int len, void *payload, int qos, bool retain, void *props) {
    (void)props;
    int rc = publish("publish", id, topic, len, payload, qos, retain);
    if (rc == OK) free(payload); /* the broker owns it from now on */
    return rc;
}

int mosquitto_broker_publish_copy(const char *id, const char *topic, int len, const void *payload, int qos, bool retain, void *props) {
    (void)props;
    return publish("publish_copy", id, topic, len, payload, qos, retain);
}

/* A kick runs the disconnect event before it returns, as the broker does. */
static int kick(const char *what, const char *name, bool by_user, bool will) {
    CALLED("%s %s %d", what, name ? name : "-", will);
    int rc = NOT_FOUND;
    for (int i = 0; i < MAX; i++) {
        struct mosquitto *c = &clients[i];
        bool match = c->connected && (!name || (by_user ? c->has_user && !strcmp(c->user, name) : !strcmp(c->id, name)));
        if (!match) continue;
        c->connected = false;
        struct ev_disconnect e = { .client = c, .reason = HOST >= 21 ? 152 : -1 };
        int kept = inside;
        run(DISCONNECT, &e);
        /* From 2.0.12 on the broker checks subscriptions again in here. */
        if (recheck) CALLED("recheck %d", ask_acl(c, 4, "recheck", NULL, 0, 0, false));
        inside = kept;
        rc = OK;
    }
    return rc;
}
int mosquitto_kick_client_by_clientid(const char *id, bool will) { return kick("kick_clientid", id, false, will); }
int mosquitto_kick_client_by_username(const char *user, bool will) { return kick("kick_username", user, true, will); }

int mosquitto_client_protocol_version(const struct mosquitto *c) { return c ? c->version : -1; }
void *mosquitto_malloc(size_t size) { return malloc(size); }
void *mosquitto_calloc(size_t n, size_t size) { return calloc(n, size); }
void *mosquitto_realloc(void *p, size_t size) { return realloc(p, size); }
void mosquitto_free(void *p) { free(p); }
char *mosquitto_strdup(const char *text) { return text ? strdup(text) : NULL; }

struct property { struct property *next; int id; uint32_t number; char *name, *value; uint16_t len; };
static int property(struct property **all, int id, uint32_t number, const char *name, const void *value, uint16_t len) {
    struct property *p = calloc(1, sizeof *p);
    p->id = id;
    p->number = number;
    p->len = len;
    p->name = name ? strdup(name) : NULL;
    if (value) { p->value = calloc(1, (size_t)len + 1); memcpy(p->value, value, len); }
    while (*all) all = &(*all)->next;
    *all = p;
    return OK;
}
int mosquitto_property_add_byte(struct property **all, int id, uint8_t v) { return property(all, id, v, 0, 0, 0); }
int mosquitto_property_add_int16(struct property **all, int id, uint16_t v) { return property(all, id, v, 0, 0, 0); }
int mosquitto_property_add_int32(struct property **all, int id, uint32_t v) { return property(all, id, v, 0, 0, 0); }
int mosquitto_property_add_varint(struct property **all, int id, uint32_t v) { return property(all, id, v, 0, 0, 0); }
int mosquitto_property_add_binary(struct property **all, int id, const void *v, uint16_t len) { return property(all, id, 0, 0, v, len); }
int mosquitto_property_add_string(struct property **all, int id, const char *v) { return property(all, id, 0, 0, v, (uint16_t)strlen(v)); }
int mosquitto_property_add_string_pair(struct property **all, int id, const char *n, const char *v) {
    return property(all, id, 0, n, v, (uint16_t)strlen(v));
}
void mosquitto_property_free_all(struct property **all) {
    if (!all) return;
    for (struct property *p = *all, *next; p; p = next) { next = p->next; free(p->name); free(p->value); free(p); }
    *all = NULL;
}

int mosquitto_pub_topic_check(const char *topic) { return !topic || !*topic || strpbrk(topic, "+#") ? INVAL : OK; }
int mosquitto_sub_topic_check(const char *filter) {
    if (!filter || !*filter || strlen(filter) > 65535) return INVAL;
    for (const char *c = filter; *c; c++) {
        bool starts = c == filter || c[-1] == '/';
        if (*c == '+' && (!starts || (c[1] && c[1] != '/'))) return INVAL;
        if (*c == '#' && (!starts || c[1])) return INVAL;
    }
    return OK;
}
int mosquitto_topic_matches_sub(const char *filter, const char *topic, bool *result) {
    if (!filter || !topic || !result) return INVAL;
    *result = false;
    if ((*topic == '$') != (*filter == '$')) return OK;
    for (;;) {
        if (*filter == '#') { *result = true; return OK; }
        if (*filter == '+') { while (*topic && *topic != '/') topic++; filter++; }
        else while (*filter && *filter != '/' && *filter == *topic) { filter++; topic++; }
        if (!*topic && !strcmp(filter, "/#")) { *result = true; return OK; }
        if (!*filter || !*topic) { *result = !*filter && !*topic; return OK; }
        if (*filter != '/' || *topic != '/') return OK;
        filter++;
        topic++;
    }
}
int mosquitto_validate_utf8(const char *text, int len) {
    if (!text || len < 0) return INVAL;
    for (int i = 0; i < len;) {
        uint8_t c = (uint8_t)text[i];
        int more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xF0 && c < 0xF5 ? 3 : -1;
        if (more < 0 || i + more >= len + (more == 0)) return 18;
        for (int k = 1; k <= more; k++) if (((uint8_t)text[i + k] & 0xC0) != 0x80) return 18;
        i += more + 1;
    }
    return OK;
}
#endif

/* ---- what 2.1 adds ---------------------------------------------------------------------------------------------- */
#if HOST >= 21
static struct mosquitto *known(const char *id) {
    for (int i = 0; id && i < MAX; i++)
        if ((clients[i].connected || clients[i].pending) && !strcmp(clients[i].id, id)) return &clients[i];
    return NULL;
}
int mosquitto_subscription_add(const struct subscription *s) {
    CALLED("subscription_add %s %s %d %u", s->id ? s->id : "-", s->filter ? s->filter : "-", s->options, s->identifier);
    if (!s->id || !s->filter) return INVAL;
    return known(s->id) ? OK : NOT_FOUND;
}
int mosquitto_subscription_delete(const char *id, const char *filter) {
    CALLED("subscription_delete %s %s", id ? id : "-", filter ? filter : "-");
    return known(id) ? OK : NOT_FOUND;
}
struct mosquitto *mosquitto_client(const char *id) { return known(id); }
int mosquitto_client_port(const struct mosquitto *c) { return c ? c->port : -1; }
void mosquitto_complete_basic_auth(const char *id, int rc) {
    CALLED("complete_basic_auth %s %d", id ? id : "-", rc);
    for (int i = 0; id && i < MAX; i++) {
        struct mosquitto *c = &clients[i];
        if (!c->pending || strcmp(c->id, id)) continue;
        c->pending = false;
        c->connected = rc == OK;
        int kept = inside;
        if (rc == OK) {
            struct ev_connect e = { .client = c };
            run(CONNECT, &e);
        } else {
            struct ev_disconnect e = { .client = c, .reason = 11 };
            run(DISCONNECT, &e);
        }
        inside = kept;
        return;
    }
    CALLED("nobody_waits %s", id ? id : "-");
}
int mosquitto_set_clientid(struct mosquitto *c, const char *id) {
    CALLED("set_clientid %s", id ? id : "-");
    if (!c || !id) return INVAL;
    snprintf(c->id, sizeof c->id, "%s", id);
    return OK;
}
int mosquitto_apply_on_all_clients(int (*each)(const struct mosquitto *, void *), void *userdata) {
    CALLED("apply_on_all_clients");
    for (int i = 0; i < MAX; i++) {
        if (!clients[i].connected) continue;
        int rc = each(&clients[i], userdata);
        if (rc) return rc;
    }
    return OK;
}
int mosquitto_plugin_set_info(void *owner, const char *name, const char *version) {
    CALLED("plugin_set_info %s %s", name ? name : "-", version ? version : "-");
    return owner && name ? OK : INVAL;
}
static const struct property *find(const struct property *all, int id, bool skip) {
    for (; all; all = all->next) {
        if (all->id != id) continue;
        if (!skip) return all;
        skip = false;
    }
    return NULL;
}
#define READ_NUMBER(suffix, type) \
    const void *mosquitto_property_read_##suffix(const struct property *all, int id, type *v, bool skip) { \
        const struct property *p = find(all, id, skip); \
        if (p && v) *v = (type)p->number; \
        return p; \
    }
READ_NUMBER(byte, uint8_t)
READ_NUMBER(int16, uint16_t)
READ_NUMBER(int32, uint32_t)
READ_NUMBER(varint, uint32_t)
const void *mosquitto_property_read_binary(const struct property *all, int id, void **v, uint16_t *len, bool skip) {
    const struct property *p = find(all, id, skip);
    if (p) { *v = malloc(p->len + 1u); memcpy(*v, p->value, p->len); *len = p->len; }
    return p;
}
const void *mosquitto_property_read_string(const struct property *all, int id, char **v, bool skip) {
    const struct property *p = find(all, id, skip);
    if (p && v) *v = strdup(p->value);
    return p;
}
const void *mosquitto_property_read_string_pair(const struct property *all, int id, char **n, char **v, bool skip) {
    const struct property *p = find(all, id, skip);
    if (p) { *n = strdup(p->name); *v = strdup(p->value); }
    return p;
}
const void *mosquitto_property_next(const struct property *p) { return p ? p->next : NULL; }
int mosquitto_property_identifier(const struct property *p) { return p ? p->id : 0; }
int mosquitto_property_copy_all(struct property **out, const struct property *all) {
    *out = NULL;
    for (; all; all = all->next) property(out, all->id, all->number, all->name, all->value, all->len);
    return OK;
}
#endif

/* ---- calling the plugin ----------------------------------------------------------------------------------------- */
static void *symbol(const char *name) { return library ? dlsym(library, name) : NULL; }

/* Runs every callback of an event; the first decision wins, as in the broker. */
static int run(int event, void *data) {
    bool decides = event == ACL || event == BASIC_AUTH || event == PSK || event == EXT_START || event == EXT_CONTINUE;
    int rc = decides ? DEFER : OK;
    for (int i = 0; i < registered_count; i++) {
        if (registered[i].event != event) continue;
        const char *topic = event == CONTROL && data ? ((struct ev_control *)data)->topic : NULL;
        if (topic && strcmp(topic, registered[i].topic)) continue;
        inside++;
        rc = registered[i].cb(event, data, registered[i].userdata);
        inside--;
        if (decides ? rc != DEFER && rc != IGNORE : rc != OK) break;
    }
    return rc;
}

/* A copy on the heap of exactly the event's size, so that Valgrind sees every byte beyond it. */
static int run_exact(int event, void *data, size_t size) {
    void *copy = malloc(size);
    memcpy(copy, data, size);
    int rc = run(event, copy);
    memcpy(data, copy, size);
    free(copy);
    return rc;
}
#define RUN(event, data) run_exact(event, &(data), sizeof(data))

typedef int (*acl_fn)(void *, int, struct mosquitto *, struct acl_msg *);
typedef int (*unpwd_fn)(void *, struct mosquitto *, const char *, const char *);
static acl_fn legacy_acl;
static unpwd_fn legacy_unpwd;

static int ask_acl(struct mosquitto *c, int access, const char *topic, const void *payload, uint32_t len, int qos, bool retain) {
    if (api == 5) {
        struct ev_acl e = { .client = c, .topic = topic, .payload = payload, .access = access, .len = len,
                            .qos = (uint8_t)qos, .retain = retain };
        return benching || log_depth ? run(ACL, &e) : RUN(ACL, e);
    }
    if (!legacy_acl) return DEFER;
    struct acl_msg m = { topic, payload, (long)len, qos, retain };
    inside++;
    int rc = legacy_acl(instances[0].userdata, access, c, &m);
    inside--;
    return rc;
}

static int ask_auth(struct mosquitto *c, char *user, char *password) {
    if (api == 5) {
        struct ev_auth e = { .client = c, .user = user, .password = password };
        return RUN(BASIC_AUTH, e);
    }
    if (!legacy_unpwd) return DEFER;
    inside++;
    int rc = legacy_unpwd(instances[0].userdata, c, user, password);
    inside--;
    return rc;
}

/* ---- commands --------------------------------------------------------------------------------------------------- */
static char *words[256];
static size_t lengths[256];
static int count;

static int digit(char c) { return c >= 'a' ? c - 'a' + 10 : c - '0'; }

static void split(char *line) {
    count = 0;
    for (char *word = strtok(line, " \n"); word && count < 256; word = strtok(NULL, " \n")) {
        words[count] = strcmp(word, "-") ? word : NULL;
        lengths[count] = strlen(word);
        if (count > 0 && word[0] == 'x') {
            size_t n = 0;
            for (char *c = word + 1; c[0] && c[1]; c += 2) word[n++] = (char)(digit(c[0]) << 4 | digit(c[1]));
            word[n] = 0;
            lengths[count] = n;
        }
        count++;
    }
}

static char *word(int at) { return at < count ? words[at] : NULL; }
static int number(int at, int otherwise) { return word(at) ? atoi(words[at]) : otherwise; }
static uint32_t length(int at) { return word(at) ? (uint32_t)lengths[at] : 0; }
static struct mosquitto *client(int at) {
    if (!word(at)) return NULL;
    return &clients[(unsigned)atoi(words[at]) % MAX];
}
static bool is(const char *name) { return words[0] && !strcmp(words[0], name); }

static void identify(struct mosquitto *c, const char *id, const char *user) {
    if (!c) return;
    c->has_id = id != NULL;
    c->has_user = user != NULL;
    snprintf(c->id, sizeof c->id, "%s", id ? id : "");
    snprintf(c->user, sizeof c->user, "%s", user ? user : "");
}

static void load(void) {
    library = dlopen(word(1), RTLD_NOW | (HOST >= 21 ? RTLD_LOCAL : RTLD_GLOBAL));
    if (!library) { say("= -1 error=%s", dlerror()); return; }
    api = 0;
#if HOST >= 20
    int (*version)(int, const int *) = symbol("mosquitto_plugin_version");
    static const int offered[] = { 5, 4, 3, 2 };
    if (version) api = version(4, offered);
#endif
    int (*old)(void) = symbol("mosquitto_auth_plugin_version");
    if (!api && old) api = old();
    legacy_acl = symbol("mosquitto_auth_acl_check");
    legacy_unpwd = symbol("mosquitto_auth_unpwd_check");
    say("= 0 api=%d", api);
}

static void init(void) {
    int first = option_count;
    for (int i = 1; i < count && option_count < 128; i++) {
        char *value = strchr(words[i], '=');
        if (value) *value++ = 0;
        options[option_count].key = strdup(words[i]);
        options[option_count++].value = value ? strdup(value) : NULL;
    }
    if (instance_count == 8) { say("= 1"); return; }
    int at = instance_count++, rc = NOT_SUPPORTED;
    if (api == 5) {
        int (*start)(void *, void **, struct opt *, int) = symbol("mosquitto_plugin_init");
        if (start) rc = start(&instances[at], &instances[at].userdata, &options[first], option_count - first);
    } else {
        int (*start)(void **, struct opt *, int) = symbol("mosquitto_auth_plugin_init");
        int (*security)(void *, struct opt *, int, bool) = symbol("mosquitto_auth_security_init");
        if (start) rc = start(&instances[at].userdata, &options[first], option_count - first);
        if (rc == OK && security) rc = security(instances[at].userdata, &options[first], option_count - first, false);
    }
    say("= %d", rc);
}

static void cleanup(void) {
    int rc = OK;
    void (*security)(void *, struct opt *, int, bool) = symbol("mosquitto_auth_security_cleanup");
    int (*end)(void *, struct opt *, int) = symbol(api == 5 ? "mosquitto_plugin_cleanup" : "mosquitto_auth_plugin_cleanup");
    /* Once without any init too: a plugin must bear that. */
    for (int i = 0; i < (instance_count ? instance_count : 1); i++) {
        if (api != 5 && security) security(instances[i].userdata, options, option_count, false);
        if (end) rc = end(instances[i].userdata, options, option_count);
        instances[i].userdata = NULL;
    }
    for (int i = 0; i < option_count; i++) { free(options[i].key); free(options[i].value); }
    instance_count = option_count = registered_count = 0;
    say("= %d", rc);
}

static void reload(void) {
    if (api == 5) {
        struct ev_reload e = { 0 };
        say("= %d", RUN(RELOAD, e));
        return;
    }
    int (*begin)(void *, struct opt *, int, bool) = symbol("mosquitto_auth_security_init");
    int (*end)(void *, struct opt *, int, bool) = symbol("mosquitto_auth_security_cleanup");
    int rc = end ? end(instances[0].userdata, options, option_count, true) : OK;
    if (begin) rc = begin(instances[0].userdata, options, option_count, true);
    say("= %d", rc);
}

static int auth(void) {
    struct mosquitto *c = client(1);
    identify(c, word(2), word(3));
    int rc = ask_auth(c, word(3), word(4));
    if (c) { c->connected = rc == OK; c->pending = rc == -5; }
    return rc;
}

static int acl(void) {
    return ask_acl(client(1), number(2, 2), word(3), word(4), length(4), number(5, 0), number(6, 0) != 0);
}

static void message(int event) {
    struct ev_message e = { .client = client(1), .topic = word(2), .payload = word(3), .len = length(3),
                            .qos = (uint8_t)number(4, 0), .retain = number(5, 0) != 0 };
    int rc = RUN(event, e);
    say("= %d retain=%d qos=%d topic=%s changed=%d", rc, e.retain, e.qos, e.topic ? e.topic : "-",
        e.topic != word(2) || e.payload != (void *)word(3));
    if (e.topic != word(2)) free(e.topic);
    if (e.payload != (void *)word(3)) free(e.payload);
    free(e.reason);
}

static void control(void) {
    struct ev_control e = { .client = client(1), .topic = word(2), .payload = word(3), .len = length(3) };
    int rc = RUN(CONTROL, e);
    say("= %d code=%d reason=%s", rc, e.code, e.reason ? e.reason : "-");
    free(e.reason);
}

static void extended(int event) {
    static char text[65536 * 2];
    struct mosquitto *c = client(1);
    const char *method = word(2);
    void *out = NULL;
    uint16_t out_len = 0;
    int rc = DEFER;
    if (api == 5) {
        struct ev_ext e = { .client = c, .in = word(3), .in_len = (uint16_t)length(3), .method = method };
        rc = RUN(event, e);
        out = e.out;
        out_len = e.out_len;
    } else if (event == EXT_START) {
        int (*start)(void *, struct mosquitto *, const char *, bool, const void *, uint16_t, void **, uint16_t *) = symbol("mosquitto_auth_start");
        if (start) rc = start(instances[0].userdata, c, method, false, word(3), (uint16_t)length(3), &out, &out_len);
    } else {
        int (*go_on)(void *, struct mosquitto *, const char *, const void *, uint16_t, void **, uint16_t *) = symbol("mosquitto_auth_continue");
        if (go_on) rc = go_on(instances[0].userdata, c, method, word(3), (uint16_t)length(3), &out, &out_len);
    }
    if (c && rc == OK) c->connected = true;
    text[0] = 0;
    for (int i = 0; i < out_len; i++) sprintf(text + 2 * i, "%02x", ((uint8_t *)out)[i]);
    say("= %d out=x%s", rc, text);
    free(out);
}

static void psk(void) {
    char *key = calloc(1, 257);
    int rc = DEFER;
    if (api == 5) {
        struct ev_psk e = { .client = client(1), .hint = word(2), .identity = word(3), .key = key, .max = 257 };
        rc = RUN(PSK, e);
    } else {
        int (*ask)(void *, struct mosquitto *, const char *, const char *, char *, int) = symbol("mosquitto_auth_psk_key_get");
        if (ask) rc = ask(instances[0].userdata, client(1), word(2), word(3), key, 257);
    }
    say("= %d key=%s", rc, key);
    free(key);
}

static void tick(void) {
    struct ev_tick e = { 0 };
    int rc = RUN(TICK, e);
    say("= %d next_ms=%ld", rc, HOST >= 21 ? e.next : 0L);
}

static void subscribe(int event) {
    struct ev_subscribe e = { .client = client(1), .data = { .filter = word(2), .options = (uint8_t)number(3, 0) } };
    int rc = RUN(event, e);
    say("= %d options=%d", rc, e.data.options);
}

/* An event without data, or with data that is all zero: "null EVENT" and "zero EVENT". */
static void nothing(bool data) {
    char zeros[256] = { 0 };
    int event = number(1, ACL), rc;
    if (api == 5) rc = run(event, data ? zeros : NULL);
    else {
        struct acl_msg m = { 0 };
        rc = DEFER;
        inside++;
        if (event == ACL && legacy_acl) rc = legacy_acl(instances[0].userdata, 1, NULL, data ? &m : NULL);
        else if (event == BASIC_AUTH && legacy_unpwd) rc = legacy_unpwd(instances[0].userdata, NULL, NULL, NULL);
        inside--;
    }
    say("= %d", rc);
}

/* "stray EVENT": a callback is called with an event that it was never registered for, without and with data; then without
 * its own data. */
static void stray(void) {
    char zeros[256] = { 0 };
    if (!registered_count) { say("= -1 error=nothing_registered"); return; }
    callback cb = registered[0].cb;
    void *userdata = registered[0].userdata;
    int event = number(1, ACL);
    int null = cb(event, NULL, userdata), zero = cb(event, zeros, userdata);
    say("= %d zero=%d bare=%d", null, zero, cb(event, zeros, NULL));
}

/* "http auth …" and "http acl …": from another thread, while this one goes on ticking. */
static int http_rc;
static volatile bool http_done;
static void *http_thread(void *is_auth) {
#ifdef COUNT
    main_mark = 1;
#endif
    http_rc = is_auth ? auth() : acl();
    http_done = true;
    return NULL;
}
static void http(void) {
    void *is_auth = word(1) && !strcmp(words[1], "auth") ? (void *)1 : NULL;
    memmove(&words[1], &words[2], sizeof words[0] * 250);
    memmove(&lengths[1], &lengths[2], sizeof lengths[0] * 250);
    count--;
    pthread_t thread;
    http_done = false;
    pthread_create(&thread, NULL, http_thread, is_auth);
    while (!http_done) {
        struct ev_tick e = { 0 };
        if (api == 5) RUN(TICK, e);
        nanosleep(&(struct timespec){ 0, 200000 }, NULL);
    }
    pthread_join(thread, NULL);
    say("= %d", http_rc);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* "bench CALLS ACCESS TOPIC…": over all connected clients and the topics, in batches whose time is taken.
 * One message goes to all clients before the next; each publish is of another topic. */
static void bench(void) {
    enum { BATCH = 16, WRITE = 2 };
    struct mosquitto *who[MAX];
    int whos = 0, topics = count - 3, access = number(2, 1), granted = 0;
    for (int i = 0; i < MAX; i++) if (clients[i].connected) who[whos++] = &clients[i];
    if (!whos || topics < 1) { say("= -1 error=no_clients_or_topics"); return; }
    long batches = number(1, 1000) / BATCH + 1;
    double *took = malloc(sizeof *took * (size_t)batches), start = now();
    benching = true;
    unsigned at = 0;
    for (long b = 0; b < batches; b++) {
        double began = now();
        for (int i = 0; i < BATCH; i++, at++) {
            unsigned topic = access == WRITE ? at : at / (unsigned)whos;
            granted += ask_acl(who[at % (unsigned)whos], access, words[3 + topic % (unsigned)topics], "x", 1, 0, false) == OK;
        }
        took[b] = (now() - began) / BATCH;
    }
    double all = now() - start;
    benching = false;
    qsort(took, (size_t)batches, sizeof *took, ascending);
    say("= 0 calls=%ld granted=%d median_ns=%.1f p99_ns=%.1f max_ns=%.1f mean_ns=%.1f", batches * BATCH, granted, took[batches / 2],
        took[batches * 99 / 100], took[batches - 1], all / (double)(batches * BATCH));
    free(took);
}

static void counters(void) {
#ifdef COUNT
    say("= 0 callbacks=%ld others=%ld", __atomic_exchange_n(&in_callbacks, 0, __ATOMIC_RELAXED),
        __atomic_exchange_n(&on_others, 0, __ATOMIC_RELAXED));
#else
    say("= -1 error=started_without_counting");
#endif
}

static void set_client(void) {
    struct mosquitto *c = client(1);
    if (word(2)) snprintf(c->address, sizeof c->address, "%s", word(2));
    else c->address[0] = 0;
    c->version = number(3, 4);
    c->clean = number(4, 1) != 0;
    c->keepalive = number(5, 60);
    say("= 0");
}

static void leave(int event) {
    struct mosquitto *c = client(1);
    struct ev_disconnect e = { .client = c, .reason = number(2, HOST >= 21 ? 7 : -1) };
    int rc = OK;
    if (c) c->connected = c->pending = false;
    if (api == 5) rc = RUN(event, e);
    say("= %d", rc);
}

static void connect_event(void) {
    struct ev_connect e = { .client = client(1) };
    if (e.client) e.client->connected = true;
    say("= %d", RUN(CONNECT, e));
}

static void obey(void) {
    if (is("load")) load();
    else if (is("init")) init();
    else if (is("client")) set_client();
    /* What the broker knows of a client that logs in in another way than by password. */
    else if (is("identify")) { identify(client(1), word(2), word(3)); say("= 0"); }
    else if (is("auth")) say("= %d", auth());
    else if (is("acl")) say("= %d", acl());
    else if (is("connect")) connect_event();
    else if (is("disconnect")) leave(DISCONNECT);
    else if (is("offline")) leave(CLIENT_OFFLINE);
    /* The socket of a client that waits for its login goes away; the broker tells nobody. */
    else if (is("vanish")) { client(1)->connected = client(1)->pending = false; say("= 0"); }
    else if (is("tick")) tick();
    else if (is("reload")) reload();
    else if (is("control")) control();
    else if (is("message")) message(MESSAGE_IN);
    else if (is("message_out")) message(MESSAGE_OUT);
    else if (is("subscribe")) subscribe(SUBSCRIBE);
    else if (is("unsubscribe")) subscribe(UNSUBSCRIBE);
    else if (is("ext_start")) extended(EXT_START);
    else if (is("ext_continue")) extended(EXT_CONTINUE);
    else if (is("psk")) psk();
    else if (is("null")) nothing(false);
    else if (is("zero")) nothing(true);
    else if (is("stray")) stray();
    else if (is("http")) http();
    else if (is("recheck")) { recheck = number(1, 1) != 0; say("= 0"); }
    else if (is("log_topic")) { log_topic = number(1, 1) != 0; say("= 0"); }
    else if (is("counters")) counters();
    /* Bytes in blocks that are in use, in all arenas. */
    else if (is("heap")) { struct mallinfo2 m = mallinfo2(); say("= 0 used=%zu", m.uordblks + m.hblkhd); }
    else if (is("bench")) bench();
    else if (is("cleanup")) cleanup();
    else if (is("unload")) {
        /* 2.1 never unmaps a plugin. */
        int rc = HOST >= 21 || !library ? 0 : dlclose(library);
        library = NULL;
        say("= %d", rc);
    }
    else say("= -1 error=unknown_command");
}

int main(void) {
    static char line[1 << 20], buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    broker_thread = pthread_self();
#ifdef COUNT
    main_mark = 1;
#endif
    for (int i = 0; i < MAX; i++) {
        snprintf(clients[i].address, sizeof clients[i].address, "127.0.0.1");
        clients[i].version = 4;
        clients[i].clean = true;
        clients[i].keepalive = 60;
        clients[i].port = 40000 + i;
    }
    identify(&clients[MAX - 1], "log-reader", NULL);
    while (fgets(line, sizeof line, stdin)) {
        split(line);
        if (!count || is("quit")) break;
        obey();
    }
    return 0;
}
