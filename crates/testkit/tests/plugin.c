/* The smallest plugin that answers both interfaces, to try the fake host and real brokers with.
 * User "ann" with password "secret" may do anything below "ok/"; "late" is answered at the next tick;
 * the payload-less topic "crash" crashes, "leak" loses memory, "overrun" reads past the event. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static char pending[64];
static void *self;

#define HOST_FUNCTION(result, name, ...) ((result (*)(__VA_ARGS__))dlsym(RTLD_DEFAULT, #name))
static void say(const char *text) { HOST_FUNCTION(void, mosquitto_log_printf, int, const char *, ...)(4, "%s", text); }

static int judge_login(void *client, const char *user, const char *password) {
    if (!user) return 17;
    if (!strcmp(user, "late") && dlsym(RTLD_DEFAULT, "mosquitto_complete_basic_auth")) {
        strcpy(pending, HOST_FUNCTION(const char *, mosquitto_client_id, void *)(client));
        return -5;
    }
    return password && !strcmp(user, "ann") && !strcmp(password, "secret") ? 0 : 11;
}
static int judge_topic(void *event, const char *topic) {
    if (!topic) return 12;
    if (!strcmp(topic, "crash")) { volatile int *nowhere = NULL; return *nowhere; }
    if (!strcmp(topic, "leak")) { *(void *volatile *)&self = malloc(100); self = NULL; return 12; }
    if (!strcmp(topic, "alloc")) { free(*(void *volatile *)&(void *){ malloc(10) }); return 0; }
    if (!strcmp(topic, "overrun")) return ((volatile char *)event)[88] ? 12 : 0;
    return strncmp(topic, "ok/", 3) ? 12 : 0;
}

static void *worker(void *unused) { say("from a worker"); return unused; }

static int on_event(int event, void *data, void *userdata) {
    (void)userdata;
    char *at = data;
    if (!data) return event == 3 ? 11 : event == 2 ? 12 : 0;
    if (event == 3) return judge_login(*(void **)(at + 8), *(char **)(at + 16), *(char **)(at + 24));
    if (event == 2) return judge_topic(data, *(char **)(at + 16));
    if (event == 9 && pending[0]) {
        char id[64];
        strcpy(id, pending);
        pending[0] = 0;
        HOST_FUNCTION(void, mosquitto_complete_basic_auth, const char *, int)(id, 0);
    }
    if (event == 7) {
        char *payload = HOST_FUNCTION(void *, mosquitto_malloc, size_t)(3);
        memcpy(payload, "hey", 3);
        HOST_FUNCTION(int, mosquitto_broker_publish, const char *, const char *, int, void *, int, bool, void *)
            ("someone", "copy", 3, payload, 1, false, NULL);
    }
    if (event == 10) say("gone");
    if (event == 1) HOST_FUNCTION(int, mosquitto_kick_client_by_clientid, const char *, bool)("c0", true);
    return 0;
}

int mosquitto_plugin_version(int n, const int *versions) { return n > 0 ? versions[0] : -1; }
int mosquitto_plugin_init(void *id, void **userdata, void *options, int n) {
    (void)userdata;
    if (n != 1 || strcmp(((char **)options)[0], "key") || strcmp(((char **)options)[1], "a value")) return 13;
    int (*add)(void *, int, int (*)(int, void *, void *), const void *, void *) = dlsym(RTLD_DEFAULT, "mosquitto_callback_register");
    for (int event = 1; event <= 13; event++) {
        if (event != 6) add(id, event, on_event, NULL, NULL);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, worker, NULL);
    pthread_join(thread, NULL);
    return 0;
}
int mosquitto_plugin_cleanup(void *userdata, void *options, int n) { (void)userdata; (void)options; (void)n; return 0; }

int mosquitto_auth_plugin_version(void) { return dlsym(RTLD_DEFAULT, "mosquitto_set_username") ? 4 : 3; }
int mosquitto_auth_plugin_init(void **ud, void *o, int n) { (void)o; *ud = &self; return n == 1 ? 0 : 13; }
int mosquitto_auth_plugin_cleanup(void *ud, void *o, int n) { (void)o; (void)n; return ud == &self ? 0 : 13; }
int mosquitto_auth_security_init(void *ud, void *o, int n, bool reload) { (void)ud; (void)o; (void)n; if (reload) say("reloaded"); return 0; }
int mosquitto_auth_security_cleanup(void *ud, void *o, int n, bool reload) { (void)ud; (void)o; (void)n; (void)reload; return 0; }
int mosquitto_auth_acl_check(void *ud, int access, void *client, const void *message) {
    (void)ud; (void)access; (void)client;
    return judge_topic((void *)message, message ? *(char *const *)message : NULL);
}
int mosquitto_auth_unpwd_check(void *ud, void *client, const char *user, const char *password) {
    (void)ud;
    return judge_login(client, user, password);
}
