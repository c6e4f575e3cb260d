"""Sends and takes datagrams with what Deno's sockets do not show: their traffic class, and several of one
length in one message (UDP_SEGMENT).

    wire.py send ADDRESS PORT TO PORT     lines "CLASS HEX [HEX ...]" on standard input, a message each
    wire.py listen ADDRESS PORT           prints "ready", then "CLASS HEX" for each datagram
"""

import socket
import struct
import sys

UDP_SEGMENT = 103


def options(address):
    if ":" in address:
        return socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS
    return socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS


def bound(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, int(port)))
    return udp


def send(address, port, to, to_port):
    udp = bound(address, port)
    level, traffic_class, _ = options(address)
    for line in sys.stdin:
        value, *texts = line.split()
        datagrams = [bytes.fromhex(text) for text in texts]
        control = [(level, traffic_class, struct.pack("i", int(value)))]
        if len(datagrams) > 1:
            control.append((socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", len(datagrams[0]))))
        udp.sendmsg([b"".join(datagrams)], control, 0, (to, int(to_port)))


def listen(address, port):
    udp = bound(address, port)
    level, _, receive = options(address)
    udp.setsockopt(level, receive, 1)
    print("ready", flush=True)
    while True:
        data, control, _, _ = udp.recvmsg(65536, 256)
        print(control[0][2][0], data.hex(), flush=True)


{"send": send, "listen": listen}[sys.argv[1]](*sys.argv[2:])
