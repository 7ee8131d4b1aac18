"""A driver for nova-compute whose guests are pretended and take orders.

It is nova's own fake.FakeDriver with what tests need besides:

* A guest takes as long to start as the server's metadata says (lab_boot=SECONDS)
  and may fail: lab_spawn=abort ends in ERROR at once, lab_spawn=fail is
  scheduled again and ends in ERROR when no host is left.
* Orders are a file per server, GUESTS/SERVERID.json, read each time it matters:
  {"util": 0.8} is the share of each of its CPUs that it uses (0.05 without),
  {"state": "crashed"} makes it look ended, so that nova's next look at it (every
  sync_power_state_interval) sets it SHUTOFF, and {"console": "text"} is what it
  printed.
* Its ports are bound to the lab's chassis in OVN, so that they become ACTIVE.
* A snapshot uploads some bytes, so that the image becomes active.
* Guests outlive nova-compute: they are kept in GUESTS/instances.json.

GUESTS is the folder named by SCALEHOOK_LAB_GUESTS, and SCALEHOOK_LAB_OVN_SB is
OVN's southbound database.
"""
import io
import json
import os
import time

from nova import exception
from nova.compute import power_state, task_states
from nova.image import glance
from nova.objects import diagnostics as diagnostics_obj
from nova.virt import fake, hardware
from oslo_concurrency import processutils
from oslo_log import log as logging

LOG = logging.getLogger(__name__)
GUESTS = os.environ['SCALEHOOK_LAB_GUESTS']
SOUTHBOUND = os.environ['SCALEHOOK_LAB_OVN_SB']


def southbound(*command):
    processutils.execute('ovn-sbctl', '--db=' + SOUTHBOUND, '--timeout=10', *command)


class PretendedDriver(fake.FakeDriver):
    capabilities = dict(fake.FakeDriver.capabilities, supports_image_type_qcow2=True)

    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        self._kept = os.path.join(GUESTS, 'instances.json')
        self._clocks = {}  # server id -> (when it was read, ns used until then, first read)
        try:
            with open(self._kept) as f:
                for uuid, (name, state) in json.load(f).items():
                    self.instances[uuid] = fake.FakeInstance(name, state, uuid)
        except FileNotFoundError:
            pass

    def _keep(self):
        with open(self._kept + '.new', 'w') as f:
            json.dump({uuid: (i.name, i.state) for uuid, i in self.instances.items()}, f)
        os.replace(self._kept + '.new', self._kept)

    @staticmethod
    def _orders(uuid):
        try:
            with open(os.path.join(GUESTS, uuid + '.json')) as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    def plug_vifs(self, instance, network_info):
        for vif in network_info or []:
            try:
                southbound('--may-exist', 'lsp-bind', vif['id'], instance.host)
                southbound('set', 'port_binding', vif['id'], 'up=true')
            except processutils.ProcessExecutionError as e:
                LOG.warning('bind port %s: %s', vif['id'], e)

    def unplug_vifs(self, instance, network_info):
        for vif in network_info or []:
            try:
                southbound('--if-exists', 'lsp-unbind', vif['id'])
            except processutils.ProcessExecutionError as e:
                LOG.info('unbind port %s: %s', vif['id'], e)

    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        orders = instance.metadata or {}
        time.sleep(float(orders.get('lab_boot', '0')))
        ending = orders.get('lab_spawn', '')
        if ending == 'abort':
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason='lab_spawn=abort')
        if ending == 'fail':
            raise exception.NovaException('lab_spawn=fail')
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info,
                      block_device_info, power_on, accel_info)
        self.plug_vifs(instance, network_info)
        self._keep()

    def destroy(self, context, instance, network_info, block_device_info=None, destroy_disks=True, destroy_secrets=True):
        super().destroy(context, instance, network_info, block_device_info, destroy_disks, destroy_secrets)
        self.unplug_vifs(instance, network_info)
        self._clocks.pop(instance.uuid, None)
        self._keep()

    def power_off(self, instance, timeout=0, retry_interval=0):
        super().power_off(instance, timeout, retry_interval)
        self._keep()

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None):
        super().power_on(context, instance, network_info, block_device_info, accel_info)
        self._keep()

    def get_info(self, instance, use_cache=True):
        info = super().get_info(instance, use_cache)
        if self._orders(instance.uuid).get('state') == 'crashed':
            return hardware.InstanceInfo(state=power_state.CRASHED)
        return info

    def get_console_output(self, context, instance):
        return self._orders(instance.uuid).get('console') or super().get_console_output(context, instance)

    def snapshot(self, context, instance, image_id, update_task_state):
        if instance.uuid not in self.instances:
            raise exception.InstanceNotRunning(instance_id=instance.uuid)
        images = glance.API()
        image = images.get(context, image_id)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        metadata = {'id': image_id, 'name': image['name'], 'disk_format': 'raw', 'container_format': 'bare',
                    'properties': {'image_state': 'available', 'owner_id': instance.project_id}}
        update_task_state(task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD)
        images.update(context, image_id, metadata, io.BytesIO(b'snapshot of ' + instance.uuid.encode() + bytes(4096)))

    def _cpu(self, instance):
        """How many ns each CPU was used, and for how many s the guest was watched."""
        now = time.monotonic()
        read, used, first = self._clocks.get(instance.uuid, (now, 0, now))
        used += int((now - read) * float(self._orders(instance.uuid).get('util', 0.05)) * 1e9)
        self._clocks[instance.uuid] = (now, used, first)
        return used, int(now - first)

    def get_diagnostics(self, instance):
        used, _ = self._cpu(instance)
        answer = super().get_diagnostics(instance)
        answer.pop('cpu0_time')
        answer.update({f'cpu{i}_time': used for i in range(instance.flavor.vcpus)}, memory=instance.flavor.memory_mb * 1024)
        return answer

    def get_instance_diagnostics(self, instance):
        used, uptime = self._cpu(instance)
        answer = diagnostics_obj.Diagnostics(state='running', driver='libvirt', hypervisor='kvm', hypervisor_os='linux',
                                             uptime=uptime, config_drive=bool(instance.config_drive))
        for i in range(instance.flavor.vcpus):
            answer.add_cpu(id=i, time=used)
        answer.memory_details = diagnostics_obj.MemoryDiagnostics(maximum=instance.flavor.memory_mb, used=instance.flavor.memory_mb)
        return answer
