// Command peer is a go-micro program on an unmodified go-micro: a server, a client that runs one scenario, a registry
// reader, a subscriber, a publisher and a benchmark. It speaks JSON, one object a line, on standard output; everything else there is go-micro's log.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

var commands = map[string]func([]string) error{
	"server":       runServer,
	"client":       runClient,
	"watch":        runWatch,
	"registry":     runRegistry,
	"subscribe":    runSubscribe,
	"publish":      runPublish,
	"kafka-topic":  runTopic,
	"bench-server": runBenchServer,
	"bench-client": runBenchClient,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer server|client|watch|registry|subscribe|publish|kafka-topic|bench-server|bench-client [flags]")
		os.Exit(2)
	}
	command, arguments := os.Args[1], os.Args[2:]
	// go-micro parses os.Args itself and dies on flags it does not know.
	os.Args = os.Args[:1]
	if err := commands[command](arguments); err != nil {
		report(map[string]interface{}{"fatal": err.Error()})
		os.Exit(1)
	}
}

var output sync.Mutex

// report writes one line. The leading record separator tells it from log lines.
func report(value interface{}) {
	line, err := json.Marshal(value)
	if err != nil {
		line, _ = json.Marshal(map[string]string{"fatal": err.Error()})
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(append([]byte("\n\x1e"), line...), '\n'))
}

// watchdog ends a program that waits for ever, which Go's streams do when their end is lost.
func watchdog(limit time.Duration) {
	time.AfterFunc(limit, func() {
		report(map[string]interface{}{"ok": false, "watchdog": true, "ms": limit.Milliseconds()})
		os.Exit(4)
	})
}

// pairs is a repeatable flag of the form key=value.
type pairs map[string]string

func (p pairs) String() string { return "" }

func (p pairs) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not key=value", text)
	}
	p[key] = value
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ExitOnError) }
