SELECT DISTINCT origin FROM delivery;
