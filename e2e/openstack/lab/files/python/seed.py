"""Puts into a fresh cloud what tests expect of any; what is there already stays.

    seed.py identity PASSWORD                projects, users, roles, the catalogue
    seed.py cloud PASSWORD [IMAGEFOLDER]     flavors, the image lab-guest, the network public

The users have the same password as admin. Ports are those of the catalogue below.
"""
import os
import sys
import time

import openstack
from keystoneauth1 import session
from keystoneauth1.identity import V3Password

AUTH_URL = 'http://127.0.0.1:5000/v3'
SERVICES = (
    ('placement', 'placement', 'http://127.0.0.1:8778'),
    ('glance', 'image', 'http://127.0.0.1:9292'),
    ('nova', 'compute', 'http://127.0.0.1:8774/v2.1'),
    ('neutron', 'network', 'http://127.0.0.1:9696'),
    ('octavia', 'load-balancer', 'http://127.0.0.1:9876'),
)
FLAVORS = (('m1.nano', 128, 1, 1), ('m1.tiny', 256, 1, 1), ('m1.small', 512, 2, 2))  # MiB, GiB, CPUs


def admin(password):
    auth = V3Password(auth_url=AUTH_URL, username='admin', password=password, project_name='admin',
                      user_domain_name='Default', project_domain_name='Default')
    return openstack.connection.Connection(session=session.Session(auth=auth), region_name='RegionOne', identity_api_version='3')


def identity(password):
    keystone = admin(password).identity
    roles = {r.name: r for r in keystone.roles()}
    for name in ('service', 'load-balancer_member', 'load-balancer_admin', 'load-balancer_observer'):
        if name not in roles:
            roles[name] = keystone.create_role(name=name)
    projects = {p.name: p for p in keystone.projects()}
    for name in ('service', 'demo', 'other'):
        if name not in projects:
            projects[name] = keystone.create_project(name=name, domain_id='default')
    users = {u.name: u for u in keystone.users()}

    def user(name, project, *names):
        if name not in users:
            users[name] = keystone.create_user(name=name, password=password, domain_id='default', default_project_id=projects[project].id)
        for role in names:
            keystone.assign_project_role_to_user(projects[project], users[name], roles[role])

    for name, _, _ in SERVICES:
        user(name, 'service', 'admin', 'service')
    user('demo', 'demo', 'member', 'load-balancer_member')
    user('demo-reader', 'demo', 'reader')
    user('other', 'other', 'member', 'load-balancer_member')
    keystone.assign_project_role_to_user(projects['admin'], users['admin'], roles['load-balancer_admin'])

    services = {s.type: s for s in keystone.services()}
    endpoints = {(e.service_id, e.interface) for e in keystone.endpoints()}
    for name, kind, url in SERVICES:
        if kind not in services:
            services[kind] = keystone.create_service(name=name, type=kind)
        for interface in ('public', 'internal', 'admin'):
            if (services[kind].id, interface) not in endpoints:
                keystone.create_endpoint(service_id=services[kind].id, interface=interface, url=url, region_id='RegionOne')


def image(glance, folder):
    """Without a folder a few zeros: nothing reads the image of a pretended guest."""
    if glance.find_image('lab-guest'):
        return
    if not folder:
        glance.create_image(name='lab-guest', container_format='bare', disk_format='raw', visibility='public', data=bytes(65536))
        return
    with open(os.path.join(folder, 'guest.qcow2'), 'rb') as f:
        glance.create_image(name='lab-guest', container_format='bare', disk_format='qcow2', visibility='public', data=f.read())


def cloud(password, folder=None):
    c = admin(password)
    there = {f.name for f in c.compute.flavors()}
    for name, ram, disk, vcpus in FLAVORS:
        if name not in there:
            c.compute.create_flavor(name=name, ram=ram, disk=disk, vcpus=vcpus)
    image(c.image, folder)
    public = c.network.find_network('public')
    if not public:
        public = c.network.create_network(name='public', **{
            'router:external': True, 'provider:network_type': 'flat', 'provider:physical_network': 'public'})
    if not public.subnet_ids:
        c.network.create_subnet(
            network_id=public.id, name='public4', ip_version=4, cidr='203.0.113.0/24', gateway_ip='203.0.113.1',
            is_dhcp_enabled=False, allocation_pools=[{'start': '203.0.113.10', 'end': '203.0.113.250'}])
    for _ in range(600):
        if any(s.binary == 'nova-compute' and s.state == 'up' for s in c.compute.services()):
            return
        time.sleep(0.5)
    sys.exit('nova-compute is not up after five minutes')


if __name__ == '__main__':
    {'identity': identity, 'cloud': cloud}[sys.argv[1]](*sys.argv[2:])
