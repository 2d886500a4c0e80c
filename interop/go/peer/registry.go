package main

import (
	"errors"
	"time"

	"interop.test/peer/gomicro"
)

type nodeLine struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Metadata map[string]string `json:"metadata"`
}

// valueTree is the registry's description of a message in the shape of its JSON.
type recordLine struct {
	Name      string      `json:"name"`
	Version   string      `json:"version"`
	Nodes     []nodeLine  `json:"nodes"`
	Endpoints interface{} `json:"endpoints"`
}

func lineOf(record *gomicro.Record) recordLine {
	line := recordLine{Name: record.Name, Version: record.Version, Nodes: []nodeLine{}, Endpoints: record.Endpoints}
	for _, node := range record.Nodes {
		line.Nodes = append(line.Nodes, nodeLine{node.Id, node.Address, node.Metadata})
	}
	return line
}

// runRegistry prints one look-up, or the list of services.
func runRegistry(arguments []string) error {
	flags := newFlags("registry")
	service := flags.String("service", "", "service to look up; empty lists all")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(20 * time.Second)
	registry := gomicro.MdnsRegistry()
	var records []*gomicro.Record
	// Silence for 100 ms is taken for absence, which on a busy machine it is not always.
	for try := 0; try < 20 && len(records) == 0; try++ {
		var err error
		if *service == "" {
			records, err = registry.ListServices()
		} else {
			records, err = registry.GetService(*service)
		}
		if err != nil {
			return err
		}
	}
	lines := []recordLine{}
	for _, record := range records {
		lines = append(lines, lineOf(record))
	}
	report(map[string]interface{}{"ok": true, "services": lines})
	return nil
}

// runWatch prints every event until it is killed.
func runWatch(arguments []string) error {
	flags := newFlags("watch")
	limit := flags.Duration("limit", 2*time.Minute, "end after this time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	watcher, err := gomicro.MdnsRegistry().Watch()
	if err != nil {
		return err
	}
	report(map[string]interface{}{"ready": true})
	for {
		result, err := watcher.Next()
		if err != nil {
			return errors.New("watch: " + err.Error())
		}
		report(map[string]interface{}{"action": result.Action, "service": lineOf(result.Service)})
	}
}
