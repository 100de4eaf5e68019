/*
 * Listens to the kernel's proc connector and does nothing with what it says: what others' event source costs alone.
 * Prints "listening", and goes on until its standard input ends. Needs the initial network and pid namespaces.
 */
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC };
	char message[NLMSG_SPACE(sizeof(struct cn_msg) + sizeof(enum proc_cn_mcast_op))] = { 0 }, buffer[65536];
	struct nlmsghdr *header = (void *)message;
	struct cn_msg *connector = NLMSG_DATA(header);
	enum proc_cn_mcast_op listen = PROC_CN_MCAST_LISTEN;
	int told = socket(PF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	struct pollfd wait[2] = { { .fd = told, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };

	header->nlmsg_len = NLMSG_LENGTH(sizeof(*connector) + sizeof(listen));
	header->nlmsg_type = NLMSG_DONE;
	connector->id.idx = CN_IDX_PROC;
	connector->id.val = CN_VAL_PROC;
	connector->len = sizeof(listen);
	memcpy(connector->data, &listen, sizeof(listen));
	if (told < 0 || bind(told, (void *)&address, sizeof(address)) != 0 ||
	    send(told, message, header->nlmsg_len, 0) < 0) {
		perror("the proc connector");
		return 1;
	}
	/* Its first word is the answer to the wish to listen; none comes where it is refused. */
	if (poll(wait, 1, 1000) != 1) {
		fprintf(stderr, "the proc connector says nothing\n");
		return 1;
	}
	puts("listening");
	fflush(stdout);
	while (poll(wait, 2, -1) > 0 && !wait[1].revents)
		if (wait[0].revents)
			(void)!recv(told, buffer, sizeof(buffer), MSG_DONTWAIT);
	return 0;
}
