// Command broker is the go-micro side of the http broker's benchmark: an unmodified broker of v5.30.0, as consumer or as
// publisher. It speaks the protocol of ../peer.mjs on its standard streams.
//
// go-micro's Publish returns before anything is sent and drops what exceeds its inbox, so that the publisher counts what
// has been handled: the consumer tells it over a connection of their own, in batches.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sort"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"go-micro.dev/v5/broker"
	"go-micro.dev/v5/registry"
)

type link struct {
	Services []*registry.Service `json:"services"`
	Handled  string              `json:"handled"`
}

type command struct {
	Do       string  `json:"do"`
	Topic    string  `json:"topic"`
	Link     *link   `json:"link"`
	Count    int     `json:"count"`
	Size     int     `json:"size"`
	InFlight int     `json:"inFlight"`
	PauseMs  float64 `json:"pauseMs"`
}

// nowNs is CLOCK_MONOTONIC, which all processes of a machine share.
func nowNs() float64 {
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&ts)), 0)
	return float64(ts.Sec)*1e9 + float64(ts.Nsec)
}

func cpuUs() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Sec+usage.Stime.Sec)*1e6 + float64(usage.Utime.Usec+usage.Stime.Usec)
}

type consumer struct {
	sync.Mutex
	left      int
	before    float64
	cpuUs     float64
	endNs     float64
	latencies []float64
	done      chan struct{}
	handled   chan struct{}
}

func (c *consumer) handle(event broker.Event) error {
	sent := math.Float64frombits(binary.LittleEndian.Uint64(event.Message().Body))
	c.Lock()
	c.latencies = append(c.latencies, nowNs()-sent)
	c.left--
	if c.left == 0 {
		c.endNs, c.cpuUs = nowNs(), cpuUs()-c.before
		close(c.done)
	}
	c.Unlock()
	c.handled <- struct{}{}
	return nil
}

// tell writes a byte for each message, those that are there together.
func (c *consumer) tell(listener net.Listener) {
	connection, err := listener.Accept()
	if err != nil {
		return
	}
	for range c.handled {
		count := 1
		for more := true; more && count < 4096; {
			select {
			case <-c.handled:
				count++
			default:
				more = false
			}
		}
		if _, err := connection.Write(make([]byte, count)); err != nil {
			return
		}
	}
}

func (c *consumer) answer(in command, b broker.Broker, r registry.Registry) (any, error) {
	if in.Do == "subscribe" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		go c.tell(listener)
		if _, err := b.Subscribe(in.Topic, c.handle); err != nil {
			return nil, err
		}
		services, err := r.GetService("micro.http.broker")
		return map[string]any{"link": link{Services: services, Handled: listener.Addr().String()}}, err
	}
	if in.Do == "expect" {
		c.Lock()
		defer c.Unlock()
		c.before = cpuUs()
		c.left, c.latencies, c.done = in.Count, make([]float64, 0, in.Count), make(chan struct{})
		return struct{}{}, nil
	}
	select {
	case <-c.done:
	case <-time.After(50 * time.Second):
		return nil, fmt.Errorf("%d messages did not come", c.left)
	}
	c.Lock()
	defer c.Unlock()
	sort.Float64s(c.latencies)
	at := func(share float64) float64 { return c.latencies[int(float64(len(c.latencies)-1)*share)] }
	return map[string]any{"endNs": c.endNs, "p50Ns": at(0.5), "p99Ns": at(0.99), "cpuUs": c.cpuUs}, nil
}

type publisher struct{ handled net.Conn }

func (p *publisher) answer(in command, b broker.Broker, r registry.Registry) (any, error) {
	if p.handled == nil {
		for _, service := range in.Link.Services {
			if err := r.Register(service); err != nil {
				return nil, err
			}
		}
		connection, err := net.Dial("tcp", in.Link.Handled)
		if err != nil {
			return nil, err
		}
		p.handled = connection
	}
	before, startNs := cpuUs(), nowNs()
	free, buffer := in.InFlight, make([]byte, 4096)
	for sent := 0; sent < in.Count; sent++ {
		for free == 0 {
			count, err := p.handled.Read(buffer)
			if err != nil {
				return nil, err
			}
			free += count
		}
		body := make([]byte, in.Size)
		for index := range body {
			body[index] = 'x'
		}
		binary.LittleEndian.PutUint64(body, math.Float64bits(nowNs()))
		free--
		if err := b.Publish(in.Topic, &broker.Message{Header: map[string]string{}, Body: body}); err != nil {
			return nil, err
		}
		if in.PauseMs > 0 {
			time.Sleep(time.Duration(in.PauseMs * float64(time.Millisecond)))
		}
	}
	if _, err := io.ReadFull(p.handled, make([]byte, in.InFlight-free)); err != nil {
		return nil, err
	}
	return map[string]any{"startNs": startNs, "cpuUs": cpuUs() - before}, nil
}

func run(role string) error {
	r := registry.NewMemoryRegistry()
	b := broker.NewHttpBroker(broker.Registry(r))
	if err := b.Connect(); err != nil {
		return err
	}
	answer := (&publisher{}).answer
	if role == "consumer" {
		answer = (&consumer{handled: make(chan struct{}, 1<<16)}).answer
	}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		var in command
		if err := json.Unmarshal(input.Bytes(), &in); err != nil {
			return err
		}
		result, err := answer(in, b, r)
		if err != nil {
			result = map[string]any{"error": err.Error()}
		}
		line, err := json.Marshal(result)
		if err != nil {
			return err
		}
		// go-micro logs to the same stream.
		fmt.Printf("\n\x1e%s\n", line)
	}
	return input.Err()
}

func main() {
	time.AfterFunc(15*time.Minute, func() { os.Exit(4) })
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
