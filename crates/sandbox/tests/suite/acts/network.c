/* The network, sockets of the host, and other ways to talk to somebody outside. */
#include "acts.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_in address4(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    return to;
}

static struct sockaddr_in6 address6(const char *host, int port) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = 1};
    inet_pton(AF_INET6, host, &to.sin6_addr);
    return to;
}

static int host_port(void) { return atoi(from_host("HOST_PORT")); }

static int connect4(const char *host, int port) {
    struct sockaddr_in to = address4(host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno : result_of(connect(fd, (void *)&to, sizeof to));
}

static int connect6(const char *host, int port) {
    struct sockaddr_in6 to = address6(host, port);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    return fd < 0 ? errno : result_of(connect(fd, (void *)&to, sizeof to));
}

ACT(connect_host_loopback) { return connect4("127.0.0.1", host_port()); }
ACT(connect_host_loopback6) { return connect6("::1", host_port()); }
ACT(connect_host_mapped) { return connect6("::ffff:127.0.0.1", host_port()); }
ACT(connect_host_any) { return connect4("0.0.0.0", host_port()); }
ACT(connect_private) { return connect4("10.0.0.1", 80); }
ACT(connect_public) { return connect4("192.0.2.1", 80); }
ACT(connect_metadata) { return connect4("169.254.169.254", 80); }
ACT(connect_broadcast) { return connect4("255.255.255.255", 80); }
ACT(connect_public6) { return connect6("2001:db8::1", 80); }
ACT(connect_link_local6) { return connect6("fe80::1", 80); }
ACT(connect_nat64) { return connect6("64:ff9b::7f00:1", host_port()); }
ACT(connect_mapped_public) { return connect6("::ffff:192.0.2.1", 80); }
ACT(connect_later) {
    struct sockaddr_in to = address4("192.0.2.1", 80);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), failed = 0;
    socklen_t length = sizeof failed;
    if (connect(fd, (void *)&to, sizeof to) && errno != EINPROGRESS) return errno;
    poll(&(struct pollfd){fd, POLLOUT, 0}, 1, 2000);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length);
    return failed;
}
ACT(connect_own) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = address4("127.0.0.1", 0);
    socklen_t length = sizeof at;
    if (bind(server, (void *)&at, sizeof at) || listen(server, 1) || getsockname(server, (void *)&at, &length)) return errno;
    return connect4("127.0.0.1", ntohs(at.sin_port));
}

/* Sending without a connection. */
static int send_to(int how) {
    struct sockaddr_in to = address4("192.0.2.1", atoi(from_host("HOST_UDP_PORT")));
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    int fd = socket(AF_INET, how == 3 ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (fd < 0) return errno;
    switch (how) {
    case 0: return result_of(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    case 1: return result_of(sendmsg(fd, &message, 0));
    case 2: return result_of(sendmmsg(fd, &messages, 1, 0));
    default: return result_of(sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&to, sizeof to));
    }
}
ACT(send_datagram) { return send_to(0); }
ACT(send_message) { return send_to(1); }
ACT(send_messages) { return send_to(2); }
ACT(send_fast_open) { return send_to(3); }
/* Goes to the loopback of the sandbox; the test looks whether the host's got it. */
ACT(send_to_host_loopback) {
    struct sockaddr_in to = address4("127.0.0.1", atoi(from_host("HOST_UDP_PORT")));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 ? errno : result_of(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
}
ACT(send_broadcast) {
    struct sockaddr_in to = address4("255.255.255.255", 9);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &(int){1}, sizeof(int));
    return fd < 0 ? errno : result_of(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
}
ACT(send_multicast) {
    struct sockaddr_in to = address4("224.0.0.251", 5353);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 ? errno : result_of(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
}

static int try_socket(int family, int kind, int protocol) { return result_of(socket(family, kind, protocol)); }
ACT(socket_raw) { return try_socket(AF_INET, SOCK_RAW, IPPROTO_RAW); }
ACT(socket_raw_icmp) { return try_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
ACT(socket_raw6) { return try_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6); }
ACT(socket_packet) { return try_socket(AF_PACKET, SOCK_RAW, 0); }
ACT(socket_netlink_route) { return try_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }
ACT(socket_netlink_uevent) { return try_socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT); }
ACT(socket_netlink_audit) { return try_socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT); }
ACT(socket_netlink_netfilter) { return try_socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER); }
ACT(socket_vsock) { return try_socket(AF_VSOCK, SOCK_STREAM, 0); }
ACT(socket_crypto) { return try_socket(AF_ALG, SOCK_SEQPACKET, 0); }
ACT(socket_bluetooth) { return try_socket(AF_BLUETOOTH, SOCK_RAW, 1); }
ACT(socket_key) { return try_socket(AF_KEY, SOCK_RAW, 2); }
ACT(socket_can) { return try_socket(AF_CAN, SOCK_RAW, 1); }
ACT(socket_tipc) { return try_socket(AF_TIPC, SOCK_STREAM, 0); }
ACT(socket_xdp) { return try_socket(44 /* AF_XDP */, SOCK_RAW, 0); }
ACT(socket_smc) { return try_socket(43 /* AF_SMC */, SOCK_STREAM, 0); }
ACT(socket_qipcrtr) { return try_socket(42 /* AF_QIPCRTR */, SOCK_DGRAM, 0); }
ACT(socket_rds) { return try_socket(AF_RDS, SOCK_SEQPACKET, 0); }
ACT(socket_any_other_family) {
    for (int family = 3; family < 64; family++) {
        if (family == AF_INET6) continue;
        for (int kind = 1; kind < 6; kind++)
            if (socket(family, kind, 0) >= 0) return POSSIBLE;
    }
    return EAFNOSUPPORT;
}
ACT(socket_pair_other_family) {
    int ends[2];
    return result_of(socketpair(AF_TIPC, SOCK_STREAM, 0, ends));
}
ACT(socket_ordinary) {
    int kinds[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_DGRAM}};
    for (int i = 0; i < 4; i++)
        if (socket(kinds[i][0], kinds[i][1], 0) < 0) return errno;
    return 0;
}

/* Interfaces and routes. */
static int on_interface(unsigned long request, const char *name) {
    struct ifreq wanted = {0};
    strncpy(wanted.ifr_name, name, IFNAMSIZ - 1);
    return result_of(ioctl(socket(AF_INET, SOCK_DGRAM, 0), request, &wanted));
}
ACT(see_other_interfaces) {
    struct if_nameindex *all = if_nameindex();
    if (all) {
        for (struct if_nameindex *one = all; one->if_name; one++)
            if (strcmp(one->if_name, "lo")) return POSSIBLE;
        return ENODEV;
    }
    /* Without netlink: by the old call. */
    struct ifreq found[64];
    struct ifconf list = {.ifc_len = sizeof found, .ifc_req = found};
    if (ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFCONF, &list)) return errno;
    for (int i = 0; i < list.ifc_len / (int)sizeof *found; i++)
        if (strcmp(found[i].ifr_name, "lo")) return POSSIBLE;
    return ENODEV;
}
ACT(take_interface_down) { return on_interface(SIOCSIFFLAGS, "lo"); }
ACT(rename_interface) { return on_interface(SIOCSIFNAME, "lo"); }
ACT(add_address) { return on_interface(SIOCSIFADDR, "lo"); }
ACT(add_bridge) { return on_interface(0x89a0 /* SIOCBRADDBR */, "br0"); }
ACT(bind_to_host_device) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
}
ACT(mark_packets) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(setsockopt(fd, SOL_SOCKET, SO_MARK, &(int){1}, sizeof(int)));
}
ACT(transparent_socket) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(setsockopt(fd, IPPROTO_IP, 19 /* IP_TRANSPARENT */, &(int){1}, sizeof(int)));
}
ACT(privileged_port) {
    struct sockaddr_in at = address4("127.0.0.1", 80);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(bind(fd, (void *)&at, sizeof at));
}
ACT(bind_host_address) {
    struct sockaddr_in at = address4("192.0.2.7", 8080);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(bind(fd, (void *)&at, sizeof at));
}
ACT(upgrade_socket) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(setsockopt(fd, IPPROTO_TCP, TCP_ULP, "smc", 4));
}
ACT(read_interface_flags) { return on_interface(SIOCGIFFLAGS, "lo"); }

/* Unix sockets of the host. */
static int connect_unix(const char *name, int is_abstract) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(to.sun_path + is_abstract, name, sizeof to.sun_path - 2);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + is_abstract + strlen(name) + !is_abstract;
    return fd < 0 ? errno : result_of(connect(fd, (void *)&to, length));
}
ACT(connect_host_abstract) { return connect_unix(from_host("HOST_ABSTRACT"), 1); }
ACT(connect_host_socket) { return connect_unix(from_host("HOST_SOCKET"), 0); }
ACT(connect_x11) { return connect_unix("/tmp/.X11-unix/X0", 0); }
ACT(connect_x11_abstract) { return connect_unix("/tmp/.X11-unix/X0", 1); }
ACT(connect_x11_tcp) { return connect4("127.0.0.1", 6000); }
ACT(connect_wayland) { return connect_unix("/run/user/1000/wayland-0", 0); }
ACT(connect_pulse) { return connect_unix("/run/user/1000/pulse/native", 0); }
ACT(connect_pipewire) { return connect_unix("/run/user/1000/pipewire-0", 0); }
ACT(connect_dbus) { return connect_unix("/run/dbus/system_bus_socket", 0); }
ACT(connect_systemd) { return connect_unix("/run/systemd/private", 0); }
ACT(connect_docker) { return connect_unix("/var/run/docker.sock", 0); }
ACT(connect_syslog) { return connect_unix("/dev/log", 0); }
ACT(connect_slot) { return connect_unix("dcgrid/slot/0", 1); }
ACT(connect_own_unix) {
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/tmp/own-socket"};
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(at.sun_path);
    if (bind(server, (void *)&at, sizeof at) || listen(server, 1)) return errno;
    return connect_unix(at.sun_path, 0);
}
/* Pretends to be the VM Portal or root towards whoever reads the credentials. */
static int forge(pid_t pid, uid_t uid) {
    int ends[2];
    struct ucred who = {pid, uid, getgid()};
    char space[CMSG_SPACE(sizeof who)] = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_CREDENTIALS;
    head->cmsg_len = CMSG_LEN(sizeof who);
    memcpy(CMSG_DATA(head), &who, sizeof who);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return errno;
    return result_of(sendmsg(ends[0], &message, 0));
}
ACT(forge_process) { return forge(1, getuid()); }
ACT(forge_user) { return forge(getpid(), 0); }
ACT(tell_own_credentials) { return forge(getpid(), getuid()); }
/* Whether /proc/net lists anything that is not its own: it made nothing. */
/* Lines of a file, but for those that end in a word. */
static int lines_but(const char *path, const char *but) {
    char line[512];
    int lines = 0;
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (fgets(line, sizeof line, file)) lines += !but || !strstr(line, but);
    fclose(file);
    return lines;
}
static int lines_of(const char *path) { return lines_but(path, 0); }
ACT(see_host_connections) { return lines_of("/proc/net/tcp") > 1 ? POSSIBLE : ENOENT; }
ACT(see_host_unix_sockets) { return lines_but("/proc/net/unix", " @evm\n") > 1 ? POSSIBLE : ENOENT; }
ACT(see_host_routes) { return lines_of("/proc/net/route") > 1 ? POSSIBLE : ENOENT; }
ACT(see_host_neighbors) { return lines_of("/proc/net/arp") > 1 ? POSSIBLE : ENOENT; }
ACT(listen_where_host_connects) {
    struct sockaddr_in at = address4("0.0.0.0", host_port());
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (void *)&at, sizeof at)) return errno;
    return result_of(listen(fd, 1));
}
