/* Preloaded into the functions, for a server of a test that has a name of AWS. ROUTE is NAME=ADDRESS=PORT: the name resolves to the
 * public address, so that the guard on what the functions reach has nothing to make an exception for, and what connects to that
 * address on 443 comes to the port on loopback. TLS is as ever. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static char name[256], address[64];
static int port;

static int has_route(void)
{
    const char *route = getenv("ROUTE");
    return route && sscanf(route, "%255[^=]=%63[^=]=%d", name, address, &port) == 3;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && has_route() && strcasecmp(node, name) == 0)
        node = address;
    return next(node, service, hints, found);
}

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (to->sa_family == AF_INET && length >= sizeof(struct sockaddr_in) && has_route()) {
        struct sockaddr_in other;
        memcpy(&other, to, sizeof other);
        if (other.sin_addr.s_addr == inet_addr(address) && other.sin_port == htons(443)) {
            other.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            other.sin_port = htons(port);
            return next(fd, (struct sockaddr *)&other, sizeof other);
        }
    }
    return next(fd, to, length);
}
