// Package quic has what go-micro's quic transport names and nothing that works: the version it asks for panics when it is
// loaded by a Go of today, and nothing here uses that transport.
package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

var errAbsent = errors.New("quic is not in this build")

type Config struct {
	IdleTimeout time.Duration
	KeepAlive   bool
}

type Stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

type Session interface {
	AcceptStream(context.Context) (Stream, error)
	OpenStreamSync(context.Context) (Stream, error)
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	Close() error
}

type Listener interface {
	Accept(context.Context) (Session, error)
	Addr() net.Addr
	Close() error
}

func DialAddr(string, *tls.Config, *Config) (Session, error) { return nil, errAbsent }

func ListenAddr(string, *tls.Config, *Config) (Listener, error) { return nil, errAbsent }
