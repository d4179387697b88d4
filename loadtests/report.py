#!/usr/bin/env python3
"""From what k6, /proc and the nodes said to two JSON files, and from these to a report.

loadtests/report.py makes the report of loadtests/results again. It has no figure that does not
stand in one of the two files; tests/it/loadtests.rs holds it against them.
"""

import json
import pathlib
import sys

import charts

NAMES = {1: 'stateful', 2: 'clustered'}
# Closer than this is no difference that one run could show.
EQUAL_PERCENT = 5
UNJOINED = """
**The nodes of approach 2 were not joined:** this program has no --redis, so Redis stood idle.
"""
BUSY = """
**The machine was busy with other work:** its load average was above its number of CPUs before the
load began. Counts, CPU time and memory hold; latencies are as much the other work's as ours, and
another run may well turn their order around. Run it again on a quiet machine.
"""


def is_busy(conditions):
    return any(found['cpus'] < found['load_before'] for found in conditions)


def digest(number, conditions, samples, summaries, ledger, hosts_shown):
    """One approach's file."""
    load, audience = (summaries[name]['metrics'] for name in (f'approach{number}', 'dashboards'))
    seconds = conditions['seconds']

    def count(metrics, name):
        return int(metrics[name]['values']['count'])
    thresholds = {f'{script} {name} {bound}': found['ok']
                  for script, summary in summaries.items()
                  for name, metric in sorted(summary['metrics'].items())
                  for bound, found in metric.get('thresholds', {}).items()}
    sent, accepted = count(load, 'samples_sent'), count(load, 'samples_accepted')
    thresholds['every sample that was sent was accepted'] = sent == accepted
    thresholds['every accepted sample was merged'] = (
        accepted <= ledger['samples_aggregated_total'] and not ledger['samples_rejected_total'])
    if number == 1 or conditions['joined']:
        # The probe is one too.
        every = conditions['hosts'] + 1
        thresholds['every node shows every host'] = all(n == every for n in hosts_shown)
    return {
        'approach': number, 'name': NAMES[number], 'conditions': conditions,
        'latency_ms': {
            'ingest': trend(load, 'ingest_ms'),
            'ingest_by_websocket': trend(load, 'ingest_ms{via:websocket}'),
            'ingest_by_http2': trend(load, 'ingest_ms{via:http2}'),
            'freshness': trend(audience, 'freshness_ms{node:own}'),
            'freshness_across_nodes': trend(audience, 'freshness_ms{node:other}'),
        },
        'samples': {'sent': sent, 'accepted': accepted,
                    'aggregated': ledger['samples_aggregated_total'],
                    'not_accepted': sent - accepted},
        'hosts_shown': {'least': min(hosts_shown), 'by_node': hosts_shown},
        'throughput': {
            'samples_per_second': round(accepted / seconds, 1),
            'frames_per_second': round(count(audience, 'frames') / seconds, 1),
            'megabytes_of_frames_per_second':
                round(count(audience, 'frame_bytes') / seconds / 1e6, 2),
        },
        **costs({name: taken[:seconds + 1] for name, taken in samples.items()}),
        'thresholds': thresholds, 'ledger': ledger,
        'equal_percent': EQUAL_PERCENT,
        'k6': {script: summary['metrics'] for script, summary in summaries.items()},
    }


def trend(metrics, name):
    values = metrics.get(name, {}).get('values', {})
    if not values.get('count'):
        return None
    return {key.replace('p(', 'p').rstrip(')'): round(value, 2) for key, value in values.items()}


def costs(samples):
    """Processor time and memory of each process, and of what belongs together."""
    processes = {}
    for name, taken in samples.items():
        cpu, memory = zip(*taken)
        steps = [max(0, after - before) for before, after in zip(cpu, cpu[1:])]
        processes[name] = {
            'cpu_seconds': round(cpu[-1] - cpu[0], 2), 'memory_mb_max': round(max(memory), 1),
            'cpu_percent_by_second': [round(100 * step, 1) for step in steps],
            'memory_mb_by_second': [round(value, 1) for value in memory],
        }

    def together(is_part):
        part = [process for name, process in processes.items() if is_part(name)]
        return {'cpu_seconds': round(sum(p['cpu_seconds'] for p in part), 2),
                'memory_mb_max': round(sum(p['memory_mb_max'] for p in part), 1)}
    return {'processes': processes, 'cost': {
        'nodes': together(lambda name: name.startswith('node')),
        'nodes_and_stores': together(lambda name: not name.startswith('k6')),
        'k6': together(lambda name: name.startswith('k6')),
    }}


# Row, where it stands in the files, and whether more is better.
ROWS = [
    ('sending to acknowledgement, average, ms', ('latency_ms', 'ingest', 'avg'), False),
    ('sending to acknowledgement, median, ms', ('latency_ms', 'ingest', 'p50'), False),
    ('sending to acknowledgement, p95, ms', ('latency_ms', 'ingest', 'p95'), False),
    ('sending to acknowledgement, p99, ms', ('latency_ms', 'ingest', 'p99'), False),
    ('the same by HTTP/2, p95, ms', ('latency_ms', 'ingest_by_http2', 'p95'), False),
    ('the same by WebSocket, p95, ms', ('latency_ms', 'ingest_by_websocket', 'p95'), False),
    ('sending to seen on a dashboard, average, ms', ('latency_ms', 'freshness', 'avg'), False),
    ('sending to seen on a dashboard, p95, ms', ('latency_ms', 'freshness', 'p95'), False),
    ('seen on another node, average, ms', ('latency_ms', 'freshness_across_nodes', 'avg'), False),
    ('seen on another node, p95, ms', ('latency_ms', 'freshness_across_nodes', 'p95'), False),
    ('samples accepted a second', ('throughput', 'samples_per_second'), True),
    ('samples sent and not accepted', ('samples', 'not_accepted'), False),
    ('hosts that every node shows', ('hosts_shown', 'least'), True),
    ('frames received a second', ('throughput', 'frames_per_second'), True),
    ('CPU time of the nodes, s', ('cost', 'nodes', 'cpu_seconds'), False),
    ('CPU time with Redis and database, s', ('cost', 'nodes_and_stores', 'cpu_seconds'), False),
    ('memory of the nodes at most, MB', ('cost', 'nodes', 'memory_mb_max'), False),
    ('memory with Redis and database, MB', ('cost', 'nodes_and_stores', 'memory_mb_max'), False),
    ('CPU time of k6, s', ('cost', 'k6', 'cpu_seconds'), None),
]


def at(result, path):
    for key in path:
        result = result[key] if result else None
    return result


def row(text, path, more_is_better, both):
    values = [at(result, path) for result in both]
    shown = ['' if value is None else f'{value:,}' for value in values]
    return f'| {text} | {shown[0]} | {shown[1]} | {winner(values, more_is_better)} |'


def winner(values, more_is_better):
    if None in values or more_is_better is None:
        return ''
    low, high = sorted(values)
    if 100 * (high - low) <= EQUAL_PERCENT * high:
        return 'equal'
    return NAMES[1 + values.index(high if more_is_better else low)]


def write(folder):
    """report.md and its pictures, once both files are there."""
    paths = [folder / f'approach{number}.json' for number in NAMES]
    if not all(path.exists() for path in paths):
        return
    both = [json.loads(path.read_text()) for path in paths]
    pictures(folder, both)
    (folder / 'report.md').write_text(markdown(both))
    print(f'{folder}/report.md', flush=True)


def pictures(folder, both):
    names = [f'{result["approach"]}: {result["name"]}' for result in both]
    for key, title in (('ingest', 'From sending to acknowledgement'),
                       ('freshness', 'From sending to seen on a dashboard')):
        groups = ['avg', 'p50', 'p95', 'p99']
        bars = [[at(result, ('latency_ms', key, group)) for group in groups] for result in both]
        (folder / f'{key}.svg').write_text(
            charts.bars(f'{title}, ms', groups, list(zip(names, bars))))
    for key, title in (('cpu_percent_by_second', 'CPU, percent of one'),
                       ('memory_mb_by_second', 'Memory, MB')):
        lines = [(f'{result["approach"]}: {name}', process[key])
                 for result in both for name, process in result['processes'].items()
                 if not name.startswith('k6')]
        (folder / f'{key.split("_")[0]}.svg').write_text(
            charts.lines(f'{title}, by second', lines))


def markdown(both):
    had = [result['conditions'] for result in both]
    joined = had[1]['joined']
    crossed = [f'approach {result["approach"]}: {name}' for result in both
               for name, is_well in result['thresholds'].items() if not is_well]
    table = '\n'.join(row(*entry, both) for entry in ROWS)
    return f'''# Two approaches under one load

Written by `make loadtest`; each figure stands in [approach1.json](approach1.json) or
[approach2.json](approach2.json), which have k6's own summaries besides. What is run, and how, is
told in [the scripts' README](../README.md).

| | approach 1, stateful | approach 2, clustered | better |
|---|---|---|---|
{table}

{'Every threshold was held.' if not crossed else 'Crossed: ' + '; '.join(crossed) + '.'}
{'' if joined else UNJOINED}{BUSY if is_busy(had) else ''}
![From sending to acknowledgement](ingest.svg)

![From sending to seen on a dashboard](freshness.svg)

![CPU](cpu.svg)

![Memory](memory.svg)

## Conditions

{had[0]['seconds']} s each, one after the other, on {had[0]['date']}: {had[0]['hosts']} hosts that
send once a second, {had[0]['viewers']} dashboards that get every frame. One machine with
{had[0]['cpus']} CPUs ({had[0]['cpu']}), kernel {had[0]['kernel']}, carries the load as well as the
servers, all of it over the loopback interface: latencies include the wait for a CPU that k6, or
whatever else runs there, is using. Load average before: {had[0]['load_before']} and
{had[1]['load_before']}. {had[0]['tidewall']}, commit {had[0]['commit']}; k6 {had[0]['k6']},
Redis {had[0]['redis']}, MariaDB {had[0]['mariadb']}.

    {had[0]['command']}

- **1, stateful:** {had[0]['what']}
- **2, clustered:** {had[1]['what']}

## What the figures mean

- The approaches differ in more than one thing (protocol, TLS, nodes, stores), as they do where
  they are run. The table says what each costs as a whole, not what any one of these does.
- An acknowledgement is mostly the way there and back, and the wait for a CPU; TLS and a stream's
  bookkeeping come on top in approach 2. At this rate neither is near its bounds: throughput is
  what was asked for in both, which shows that nothing was refused, not how much more there could
  be.
- From sending to seen is mostly the wait for the next tick, half of one on average, and for k6 to
  come to the frame, which takes longer the busier the machine is, and longer by TLS. In approach 2
  a sample that came in at another node has Redis in its way besides, and the tick of two nodes.
- Approach 2 pays for its stores and for a picture of the fleet in every node with memory, and for
  TLS with CPU time. What that buys is in no row: a node may go, and the others show and take on.
- "Better" is said from a difference of {EQUAL_PERCENT} percent on, and by one run on a shared
  machine. k6 costs more CPU time than all servers together; `tidewall fleet` loads a node with
  less.
'''


if __name__ == '__main__':
    write(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                       pathlib.Path(__file__).resolve().parent / 'results'))
