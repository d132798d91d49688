#include <stddef.h>
#include <string.h>
#include "control/files.h"

const struct control_file control_files[] = {
	{ "badhelo", CONTROL_LIST, "", 0, "qmail-smtpd",
	    "names of clients, as HELO or EHLO says them, that are refused; .suffix for all below; or expressions, see qmail-control(5)" },
	{ "badhelonorelay", CONTROL_LIST, "", 0, "qmail-smtpd",
	    "the same, but for clients that may not relay" },
	{ "badmailfrom", CONTROL_LIST, "", 0, "qmail-smtpd, qmail-qmtpd",
	    "envelope senders that are refused, as address, @domain or expression, see qmail-control(5)" },
	{ "badmailfromnorelay", CONTROL_LIST, "", 0, "qmail-smtpd, qmail-qmtpd",
	    "the same as badmailfrom, but for clients that may not relay" },
	{ "badrcptto", CONTROL_LIST, "", 0, "qmail-smtpd, qmail-qmtpd",
	    "envelope recipients that are refused, as address, @domain or expression, see qmail-control(5)" },
	{ "badrcpttonorelay", CONTROL_LIST, "", 0, "qmail-smtpd, qmail-qmtpd",
	    "the same, but for clients that may not relay" },
	{ "bounceformat", CONTROL_LINE, "rfc3464", 0, "qmail-send",
	    "form of bounces: rfc3464, a report for people and programs, or qsbmf, qmail's plain text" },
	{ "bouncefrom", CONTROL_LINE, "MAILER-DAEMON", 0, "qmail-send",
	    "local part that bounces come from" },
	{ "bouncehost", CONTROL_LINE, "me", 0, "qmail-send",
	    "domain that bounces come from" },
	{ "bouncemaxbytes", CONTROL_NUMBER, "200000", 0, "qmail-send",
	    "octets of a message that its bounce returns whole; of a larger one it returns the header; 0 is no limit" },
	{ "brtlimit", CONTROL_NUMBER, "100", 0, "qmail-smtpd",
	    "recipients refused since the last message, after which an SMTP session is ended" },
	{ "concurrencyaddress", CONTROL_NUMBER, "50", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "connections of one address at the same time, to each of these servers" },
	{ "concurrencydestination", CONTROL_NUMBER, "5", 0, "qmail-send",
	    "remote deliveries to one domain at the same time" },
	{ "concurrencyincoming", CONTROL_NUMBER, "1000", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "connections at the same time, to each of these servers" },
	{ "concurrencylocal", CONTROL_NUMBER, "10", 0, "qmail-send",
	    "local deliveries at the same time" },
	{ "concurrencyprefix", CONTROL_NUMBER, "200", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "connections of one network (/24 of IPv4, /64 of IPv6) at the same time, to each of these servers" },
	{ "concurrencyremote", CONTROL_NUMBER, "20", 0, "qmail-send",
	    "remote deliveries at the same time" },
	{ "databytes", CONTROL_NUMBER, "0", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "octets of the largest message taken from the network; 0 is no limit" },
	{ "defaultdelivery", CONTROL_LIST, "./Mailbox", 0, "the qmail-send service",
	    "instructions for users without a dot-qmail file" },
	{ "defaultdomain", CONTROL_LINE, "me", 0, "qmail-inject",
	    "domain that is added to a host name without a dot" },
	{ "defaulthost", CONTROL_LINE, "me", 0, "qmail-inject",
	    "host that is added to an address without one" },
	{ "delaynotice", CONTROL_NUMBER, "14400", 0, "qmail-send",
	    "seconds after which a sender who asked for it (NOTIFY=DELAY) is told of a delay; 0 is never" },
	{ "dnsblfailclosed", CONTROL_NUMBER, "0", 0, "qmail-dnsbl",
	    "other than 0: a DNS list that does not answer in time defers the mail" },
	{ "dnsbllist", CONTROL_LIST, "", 0, "qmail-dnsbl",
	    "DNS lists that are asked about a client's address, see qmail-dnsbl(8)" },
	{ "dnsservers", CONTROL_LIST, "", 0, "qmail-remote, qmail-route, qmail-dnsbl",
	    "name servers to ask, as IP, IP:port or [IPv6]:port, instead of those of /etc/resolv.conf" },
	{ "doublebouncehost", CONTROL_LINE, "me", 0, "qmail-send",
	    "domain that double bounces go to" },
	{ "doublebounceto", CONTROL_LINE, "postmaster", 0, "qmail-send",
	    "local part that double bounces go to" },
	{ "envnoathost", CONTROL_LINE, "me", 0, "qmail-send, qmail-rcptd",
	    "domain of an envelope recipient without one" },
	{ "greetdelay", CONTROL_NUMBER, "0", 0, "qmail-smtpd",
	    "seconds before the SMTP greeting; a client that speaks before it is refused" },
	{ "helohost", CONTROL_LINE, "me", 1, "qmail-remote",
	    "name that this host gives itself as an SMTP client" },
	{ "idhost", CONTROL_LINE, "me", 0, "qmail-inject",
	    "right side of the Message-IDs made here" },
	{ "localiphost", CONTROL_LINE, "me", 0, "qmail-smtpd",
	    "domain that stands for [the own IP address] of an envelope recipient" },
	{ "locals", CONTROL_LIST, "me", 1, "qmail-send, qmail-rcptd",
	    "domains whose mail is delivered here" },
	{ "maxhops", CONTROL_NUMBER, "100", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "Received and Delivered fields with which a message counts as looping" },
	{ "maxmail", CONTROL_NUMBER, "100000", 0, "qmail-smtpd",
	    "mail transactions in one SMTP session" },
	{ "maxrcpt", CONTROL_NUMBER, "1000", 0, "qmail-smtpd, qmail-qmtpd",
	    "recipients of a message that comes by SMTP" },
	{ "maxsmtperrors", CONTROL_NUMBER, "20", 0, "qmail-smtpd",
	    "SMTP commands that were wrong after which a session is ended" },
	{ "maxsmtpidle", CONTROL_NUMBER, "500", 0, "qmail-smtpd",
	    "SMTP commands without a message, from the last one on, after which a session is ended" },
	{ "me", CONTROL_LINE, "", 1, "all",
	    "name of this host, the default of many files" },
	{ "moreipme", CONTROL_LIST, "", 0, "qmail-remote, qmail-route, qmail-smtpd",
	    "addresses of this host beside those of its interfaces, as IP or IP/bits" },
	{ "morercpthosts", CONTROL_LIST, "", 0, "qmail-newmrh",
	    "more domains for rcpthosts, compiled by qmail-newmrh" },
	{ "morercpthosts.cdb", CONTROL_TABLE, "", 0, "qmail-smtpd, qmail-qmtpd",
	    "the same, compiled" },
	{ "notipme", CONTROL_LIST, "", 0, "qmail-remote, qmail-route, qmail-smtpd",
	    "addresses that are not this host's after all, as IP or IP/bits" },
	{ "outgoingip", CONTROL_LIST, "", 0, "qmail-remote",
	    "addresses that connections to other hosts come from, one IPv4, one IPv6" },
	{ "percenthack", CONTROL_LIST, "", 0, "qmail-send, qmail-rcptd",
	    "domains for which user%host@domain means user@host" },
	{ "plusdomain", CONTROL_LINE, "me", 0, "qmail-inject",
	    "domain that is added to a host name that ends in a plus sign" },
	{ "pop3expire", CONTROL_LINE, "never", 0, "qmail-pop3d",
	    "days that messages are kept, as POP3 clients are told, or never; nothing is removed by it" },
	{ "pop3logindelay", CONTROL_NUMBER, "0", 0, "qmail-pop3d",
	    "seconds that have to pass between two POP3 logins of a user; 0 is any" },
	{ "pop3sessiontime", CONTROL_NUMBER, "86400", 0, "qmail-pop3d",
	    "seconds after which a POP3 session is ended" },
	{ "qmqpservers", CONTROL_LIST, "", 0, "qmail-qmqpc",
	    "QMQP servers that take this host's mail, addresses or names; the first that can be reached gets it" },
	{ "queuelifetime", CONTROL_NUMBER, "604800", 0, "qmail-send",
	    "seconds after which a message that cannot be delivered bounces" },
	{ "rcpthosts", CONTROL_LIST, "me", 0, "qmail-smtpd, qmail-qmtpd",
	    "domains for which anybody may send mail here, .suffix for all below" },
	{ "rejectnullsenders", CONTROL_NUMBER, "0", 0, "qmail-smtpd",
	    "1: no mail from the null sender is taken, so no bounces either" },
	{ "smtpgreeting", CONTROL_LINE, "me", 1, "qmail-smtpd",
	    "greeting of the SMTP server, its name first" },
	{ "smtproutes", CONTROL_MAP, "", 0, "qmail-remote, qmail-route, qmail-send",
	    "relay for a domain, instead of its MX hosts" },
	{ "smtpsessiontime", CONTROL_NUMBER, "14400", 0, "qmail-smtpd",
	    "seconds after which an SMTP session is ended" },
	{ "tarpitcount", CONTROL_NUMBER, "0", 0, "qmail-smtpd",
	    "recipients of a message after which each one more is delayed; 0 is never" },
	{ "tarpitdelay", CONTROL_NUMBER, "5", 0, "qmail-smtpd",
	    "seconds of this delay" },
	{ "tcp.qmqp", CONTROL_LIST, "", 0, "tcprules",
	    "rules: who may use QMQP, who relays, and variables for clients" },
	{ "tcp.qmqp.cdb", CONTROL_TABLE, "", 0, "qmail-qmqpd",
	    "the same, compiled" },
	{ "tcp.qmtp", CONTROL_LIST, "", 0, "tcprules",
	    "rules: who may use QMTP, who relays, and variables for clients" },
	{ "tcp.qmtp.cdb", CONTROL_TABLE, "", 0, "qmail-qmtpd",
	    "the same, compiled" },
	{ "tcp.smtp", CONTROL_LIST, "", 0, "tcprules",
	    "rules: who may connect, who relays, and variables for clients" },
	{ "tcp.smtp.cdb", CONTROL_TABLE, "", 0, "qmail-smtpd",
	    "the same, compiled" },
	{ "timeoutconnect", CONTROL_NUMBER, "60", 0, "qmail-remote",
	    "seconds for an SMTP server to take a connection" },
	{ "timeoutpop3d", CONTROL_NUMBER, "1200", 0, "qmail-pop3d",
	    "seconds for a POP3 client to say something, and to read a reply" },
	{ "timeoutremote", CONTROL_NUMBER, "1200", 0, "qmail-remote",
	    "seconds for an SMTP server to answer" },
	{ "timeoutsmtpd", CONTROL_NUMBER, "1200", 0, "qmail-smtpd, qmail-qmtpd, qmail-qmqpd",
	    "seconds for an SMTP client to say something" },
	{ "virtualdomains", CONTROL_MAP, "", 0, "qmail-send, qmail-rcptd",
	    "domains and addresses whose mail a local user gets, with what is put before the local part" },
	{ NULL, CONTROL_LINE, NULL, 0, NULL, NULL },
};

const char *
control_form_name(enum control_form form)
{
	switch (form) {
	case CONTROL_LINE:
		return "line";
	case CONTROL_NUMBER:
		return "number";
	case CONTROL_LIST:
		return "list";
	case CONTROL_MAP:
		return "map";
	case CONTROL_TABLE:
		return "compiled";
	}
	return "";
}

const struct control_file *
control_file_find(const char *name)
{
	const struct control_file *f = control_files;

	while (f->name && strcmp(f->name, name) != 0)
		f++;
	return f->name ? f : NULL;
}
