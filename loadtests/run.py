#!/usr/bin/env python3
"""Both approaches under the same load, one after the other, each in a configuration as it is run.

    make loadtest                       # or, with k6 and the stores in PATH:
    LOAD_SECONDS=20 loadtests/run.py 1  # approach 1 alone, 20 seconds

Starts what an approach needs in a folder that goes with it, on free ports of the loopback
interface; has k6 send and watch; samples CPU time and memory of every process from /proc; leaves
loadtests/results/approach1.json, approach2.json and report.md. Ctrl-C stops everything too.
"""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = pathlib.Path(os.environ.get('RESULTS', HERE / 'results'))
BIN = os.environ.get('BIN', str(ROOT / 'target/release/tidewall'))
SECONDS = int(os.environ.get('LOAD_SECONDS', '60'))
HOSTS = int(os.environ.get('HOSTS', '200'))
VIEWERS = int(os.environ.get('VIEWERS', '500'))

# A patience that no healthy start or stop needs.
PATIENCE = 30
# Certificates are the run's own.
UNVERIFIED = ssl._create_unverified_context()


class Stack(contextlib.ExitStack):
    """Processes and a folder, ended in reverse order, whatever happens."""

    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory('-tidewall')))
        self.processes = {}

    def start(self, name, command, **env):
        """The process gets a session of its own: Ctrl-C is for us, who stop it in order."""
        log = self.enter_context(open(self.folder / f'{name}.log', 'wb'))
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **env})
        self.callback(end, process)
        self.processes[name] = process
        return process

    def log(self, name):
        return (self.folder / f'{name}.log').read_text(errors='replace')


def end(process):
    """All of its session, since some are scripts that started others."""
    def kill(how):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
    kill(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    kill(signal.SIGKILL)
    process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def await_(what, is_there, stack, name):
    until = time.monotonic() + PATIENCE
    while not is_there():
        if stack.processes[name].poll() is not None or time.monotonic() > until:
            sys.exit(f'{what} did not come; {name} said:\n{stack.log(name)[-2000:]}')
        time.sleep(0.05)


def get(url):
    """Body of an answer, or None."""
    try:
        with urllib.request.urlopen(url, timeout=5, context=UNVERIFIED) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0


def start_node(stack, name, scheme, flags):
    port = free_port()
    command = [BIN, 'serve', '--listen', f'127.0.0.1:{port}', '--no-pin', '--log', 'info', *flags]
    stack.start(name, command)
    url = f'{scheme}://127.0.0.1:{port}'
    await_(f'{name} at {url}', lambda: get(f'{url}/readyz'), stack, name)
    return url


def start_stateful(stack):
    """One node with two cores, history embedded; POST by HTTP/1.1 in clear text."""
    flags = ['--cores', '2', '--history', f'sqlite:{stack.folder}/history']
    return [start_node(stack, 'node', 'http', flags)]


def start_clustered(stack):
    """Two nodes with one core each and Redis between them, history in MariaDB; half of the hosts
    on WebSockets, half by HTTP/2, all by TLS."""
    cert, key = make_certificate(stack.folder)
    redis, database = start_redis(stack), start_mariadb(stack)
    (stack.folder / 'cluster.key').write_text(secrets.token_hex(32) + '\n')
    nodes = []
    for name in ('one', 'two'):
        flags = ['--cores', '1', '--tls-cert', cert, '--tls-key', key, '--history', database,
                 '--history-dir', f'{stack.folder}/{name}']
        if can_join():
            flags += ['--redis', redis, '--cluster-key', f'{stack.folder}/cluster.key',
                      '--node', name]
        nodes.append(start_node(stack, f'node {name}', 'https', flags))
    return nodes


def can_join():
    return '--redis' in subprocess.run([BIN, 'serve', '--help'], capture_output=True, text=True,
                                       check=True).stdout


def make_certificate(folder):
    cert, key = f'{folder}/cert.pem', f'{folder}/key.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext',
         'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert],
        check=True, capture_output=True)
    return cert, key


def start_redis(stack):
    port = free_port()
    stack.start('redis', ['redis-server', '--port', str(port), '--bind', '127.0.0.1', '--save', '',
                          '--appendonly', 'no', '--dir', str(stack.folder)])
    await_('Redis', lambda: answers(port), stack, 'redis')
    return f'redis://127.0.0.1:{port}'


def start_mariadb(stack):
    port, password, folder = free_port(), secrets.token_hex(12), stack.folder
    as_user = ['--user=root'] if os.getuid() == 0 else []
    made = stack.start('mariadb-install-db', [
        'mariadb-install-db', '--no-defaults', f'--datadir={folder}/mariadb',
        '--auth-root-authentication-method=normal', '--skip-test-db', *as_user])
    if made.wait() != 0:
        sys.exit(f'no database was made:\n{stack.log("mariadb-install-db")[-2000:]}')
    del stack.processes['mariadb-install-db']
    (folder / 'init.sql').write_text(
        f"CREATE DATABASE wall;\nCREATE USER tide@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON wall.* TO tide@'%';\n")
    stack.start('mariadb', [
        'mariadbd', '--no-defaults', '--bind-address=127.0.0.1', f'--port={port}',
        f'--datadir={folder}/mariadb', f'--socket={folder}/mariadb.sock', '--skip-name-resolve',
        f'--pid-file={folder}/mariadb.pid', f'--init-file={folder}/init.sql', *as_user])
    await_('MariaDB', lambda: answers(port), stack, 'mariadb')
    return f'mysql://tide:{password}@127.0.0.1:{port}/wall'


def run_k6(stack, number, nodes):
    """The senders and the audience, two processes; gives what they cost and what k6 says."""
    common = {'LOAD_SECONDS': str(SECONDS), 'HOSTS': str(HOSTS), 'VIEWERS': str(VIEWERS),
              'NODES': ','.join(nodes), 'CLUSTER': 'yes' if can_join() else 'no'}
    servers = dict(stack.processes)
    loads = {}
    for script in ('dashboards', f'approach{number}'):
        loads[script] = stack.start(
            f'k6 {script}', ['k6', 'run', '--quiet', '--no-usage-report', '--address', '',
                             str(HERE / f'{script}.js')],
            **common, SUMMARY=f'{stack.folder}/{script}.json')
    watched = {**servers, **{f'k6 {name}': load for name, load in loads.items()}}
    samples = {name: [] for name in watched}
    while any(load.poll() is None for load in loads.values()):
        for name, process in watched.items():
            if (sample := usage(process.pid)) is not None:
                samples[name].append(sample)
        time.sleep(1)
    summaries = {}
    for script, load in loads.items():
        # 99: a threshold was crossed, which the report tells.
        if load.returncode not in (0, 99):
            sys.exit(f'k6 {script} failed:\n{stack.log(f"k6 {script}")[-2000:]}')
        summaries[script] = json.loads((stack.folder / f'{script}.json').read_text())
    return samples, summaries


def usage(pid):
    """CPU seconds since the process began, and its resident MB; None once it has gone."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
        pages = int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
    except (OSError, IndexError):
        return None
    ticks = int(stat[11]) + int(stat[12])
    return ticks / os.sysconf('SC_CLK_TCK'), pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def ledger(nodes):
    """The nodes' own counters, summed, once each accepted sample was merged."""
    def counter(text, name):
        lines = re.findall(rf'^tidewall_{name}(?:{{[^}}]*}})? (\d+)', text, re.M)
        return sum(map(int, lines))
    names = ('samples_received_total', 'samples_accepted_total', 'samples_rejected_total',
             'samples_aggregated_total', 'samples_persisted_total', 'history_pending',
             'history_dropped_total', 'frames_sent_total', 'frames_coalesced_total')
    time.sleep(1)
    texts = [get(f'{node}/metrics') or '' for node in nodes]
    return {name: sum(counter(text, name) for text in texts) for name in names}


def hosts_shown(nodes):
    """How many hosts each node has on its wall, whichever of them heard of it."""
    snapshots = [json.loads(get(f'{node}/api/snapshot') or '{}') for node in nodes]
    return [sum(snapshot.get('hosts', {}).values()) for snapshot in snapshots]


def conditions():
    def say(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()

    def version(command, pattern):
        return re.search(pattern, say(*command.split()))[1]
    models = re.findall(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())
    return {
        'date': datetime.date.today().isoformat(),
        'commit': say('git', 'rev-parse', '--short', 'HEAD'),
        'command': f'LOAD_SECONDS={SECONDS} HOSTS={HOSTS} VIEWERS={VIEWERS} make loadtest',
        'cpus': os.cpu_count(), 'cpu': models[0] if models else platform.machine(),
        'kernel': platform.release(), 'tidewall': say(BIN, '--version'),
        'k6': version('k6 version', r'v([\d.]+)'),
        'redis': version('redis-server --version', r'v=([\d.]+)'),
        'mariadb': version('mariadbd --version', r'Ver ([\d.]+)'),
        'seconds': SECONDS, 'hosts': HOSTS, 'viewers': VIEWERS,
        'load_before': round(os.getloadavg()[0], 2),
    }


def run(number, start):
    what = ' '.join(start.__doc__.split())
    print(f'approach {number}, {SECONDS} s: {what}', flush=True)
    with Stack() as stack:
        found = conditions()
        found['what'] = what
        nodes = start(stack)
        samples, summaries = run_k6(stack, number, nodes)
        found['joined'] = number == 2 and can_join()
        result = report.digest(number, found, samples, summaries, ledger(nodes),
                               hosts_shown(nodes))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f'approach{number}.json').write_text(json.dumps(result, indent=1) + '\n')
    return all(result['thresholds'].values())


def interrupt(*_):
    """What was started is stopped on the way out, which a second Ctrl-C would cut short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    missing = [tool for tool in (BIN, 'k6', 'openssl', 'redis-server', 'mariadbd')
               if not shutil.which(tool)]
    if missing:
        sys.exit(f'missing: {", ".join(missing)}; `make loadtest` gets them')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    approaches = {'1': start_stateful, '2': start_clustered}
    wanted = sys.argv[1:] or list(approaches)
    try:
        well = [run(int(number), approaches[number]) for number in wanted]
    except KeyboardInterrupt:
        sys.exit('interrupted; everything that was started has been stopped')
    report.write(RESULTS)
    if not all(well):
        sys.exit(f'a threshold was crossed: see {RESULTS}/report.md')


if __name__ == '__main__':
    main()
